// What the ranks of a gang need of libtorch's c10d, in terms that cxx can carry. Exceptions become Rust's errors.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>

#include <c10/util/Exception.h>

#include "rust/cxx.h"

namespace at {
class Tensor;
}

// How cxx turns an exception into an error: as it does by itself, but without libtorch's C++ stack traces.
namespace rust::behavior {
template <typename Try, typename Fail>
static void trycatch(Try &&func, Fail &&fail) noexcept try {
    func();
} catch (const c10::Error &error) {
    fail(error.what_without_backtrace());
} catch (const std::exception &error) {
    fail(error.what());
} catch (...) {
    fail("an exception without a message");
}
}  // namespace rust::behavior

namespace nettailor {

struct Outcome;  // of Rust

// A connection to a TCPStore; the first one holds the server too. Safe to use from several threads, one call at a time:
// a call that blocks holds up the others, so each thread takes a connection of its own.
class Store {
public:
    struct Inner;
    explicit Store(std::unique_ptr<Inner> inner);
    ~Store();

    std::unique_ptr<Store> another() const;
    std::uint16_t port() const;
    void set(rust::Str key, rust::Slice<const std::uint8_t> value) const;
    // Waits until all of the keys are there.
    void wait(rust::Slice<const rust::String> keys, std::uint64_t timeout_ms) const;
    // Waits for the key.
    rust::Vec<std::uint8_t> get(rust::Str key, std::uint64_t timeout_ms) const;
    bool has(rust::Str key) const;
    std::int64_t add(rust::Str key, std::int64_t amount) const;

    const Inner &inner() const { return *inner_; }

private:
    std::unique_ptr<Inner> inner_;
};

std::unique_ptr<Store> host_store(std::uint64_t timeout_ms);
std::unique_ptr<Store> join_store(rust::Str host, std::uint16_t port, std::uint64_t timeout_ms);

// A ProcessGroupGloo: operations start in the order of the calls and go on in threads of its own; each tells its outcome.
// Destroying it waits for those that have not ended.
class Gloo {
public:
    struct Inner;
    explicit Gloo(std::unique_ptr<Inner> inner);
    ~Gloo();

    void sum(const at::Tensor &tensor, rust::Box<Outcome> outcome) const;
    void broadcast(const at::Tensor &tensor, std::int32_t root, rust::Box<Outcome> outcome) const;

private:
    std::unique_ptr<Inner> inner_;
};

// Connects to all other ranks from `address`, meeting them under keys that begin with `prefix`.
std::unique_ptr<Gloo> join_gloo(const Store &store, rust::Str prefix, rust::Str address, std::int32_t rank,
                                std::int32_t world_size, std::uint64_t timeout_ms);

}  // namespace nettailor
