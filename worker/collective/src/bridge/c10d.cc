#include "nettailor-collective/src/bridge/c10d.h"

#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <netdb.h>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "nettailor-collective/src/bridge/mod.rs.h"

// libtorch asks DNS for the name of whoever opens a connection, to print it, and it does so in the one thread in which a
// TCPStore serves everybody. Where DNS is slow or silent, that thread stands still for seconds per connection, and the ranks
// take rank 0 for lost. This definition comes before the C library's for all of the program: addresses stay numbers.
extern "C" int getnameinfo(const sockaddr *address, socklen_t length, char *host, socklen_t host_size, char *service,
                           socklen_t service_size, int flags) {
    static const auto next = reinterpret_cast<decltype(&getnameinfo)>(dlsym(RTLD_NEXT, "getnameinfo"));
    if (next == nullptr) return EAI_SYSTEM;
    return next(address, length, host, host_size, service, service_size, flags | NI_NUMERICHOST);
}

namespace nettailor {

using Milliseconds = std::chrono::milliseconds;

struct Store::Inner {
    c10::intrusive_ptr<c10d::Store> store;
    std::uint16_t port;
};

Store::Store(std::unique_ptr<Inner> inner) : inner_(std::move(inner)) {}
Store::~Store() = default;

static std::unique_ptr<Store> connect(const std::string &host, const c10d::TCPStoreOptions &options) {
    // Whatever a store warns of is an error to its caller, who says it in a line where libtorch prints a page.
    if (FLAGS_caffe2_log_level == c10::GLOG_WARNING) FLAGS_caffe2_log_level = c10::GLOG_ERROR;
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    auto port = store->getPort();
    return std::make_unique<Store>(std::make_unique<Store::Inner>(Store::Inner{std::move(store), port}));
}

std::unique_ptr<Store> host_store(std::uint64_t timeout_ms) {
    c10d::TCPStoreOptions options;
    options.port = 0;
    options.isServer = true;
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout_ms);
    return connect("localhost", options);
}

std::unique_ptr<Store> join_store(rust::Str host, std::uint16_t port, std::uint64_t timeout_ms) {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout_ms);
    return connect(std::string(host), options);
}

std::unique_ptr<Store> Store::another() const {
    return std::make_unique<Store>(std::make_unique<Inner>(Inner{inner_->store->clone(), inner_->port}));
}

std::uint16_t Store::port() const { return inner_->port; }

void Store::set(rust::Str key, rust::Slice<const std::uint8_t> value) const {
    inner_->store->set(std::string(key), std::vector<std::uint8_t>(value.begin(), value.end()));
}

void Store::wait(rust::Slice<const rust::String> keys, std::uint64_t timeout_ms) const {
    inner_->store->wait(std::vector<std::string>(keys.begin(), keys.end()), Milliseconds(timeout_ms));
}

rust::Vec<std::uint8_t> Store::get(rust::Str key, std::uint64_t timeout_ms) const {
    std::string name(key);
    inner_->store->wait({name}, Milliseconds(timeout_ms));
    rust::Vec<std::uint8_t> value;
    for (auto byte : inner_->store->get(name)) value.push_back(byte);
    return value;
}

bool Store::has(rust::Str key) const { return inner_->store->check({std::string(key)}); }

std::int64_t Store::add(rust::Str key, std::int64_t amount) const {
    return inner_->store->add(std::string(key), amount);
}

struct Gloo::Inner {
    c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
};

Gloo::Gloo(std::unique_ptr<Inner> inner) : inner_(std::move(inner)) {}
Gloo::~Gloo() = default;

// libtorch keeps a record of operations that all groups of the process write into (FlightRecorder), and its table of groups
// is not locked: two groups must not start operations at once. Starting one only queues it.
static std::mutex starting;

// The message that an operation ended with, in the words of `trycatch`.
static rust::String message(const std::exception_ptr &error) {
    std::string text;
    rust::behavior::trycatch([&] { std::rethrow_exception(error); }, [&](const char *what) { text = what; });
    return rust::String::lossy(text);
}

template <typename Start>
static void begin(Start &&start, rust::Box<Outcome> outcome) {
    auto work = [&] {
        std::lock_guard<std::mutex> guard(starting);
        return start();
    }();
    // A callback must be copyable, the box is not.
    auto shared = std::make_shared<rust::Box<Outcome>>(std::move(outcome));
    work->getFuture()->addCallback([shared](c10::ivalue::Future &future) {
        if (future.hasError()) {
            (*shared)->fail(message(future.exception_ptr()));
        } else {
            (*shared)->succeed();
        }
    });
}

void Gloo::sum(const at::Tensor &tensor, rust::Box<Outcome> outcome) const {
    std::vector<at::Tensor> tensors{tensor};
    begin([&] { return inner_->group->allreduce(tensors); }, std::move(outcome));
}

void Gloo::broadcast(const at::Tensor &tensor, std::int32_t root, rust::Box<Outcome> outcome) const {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    begin([&] { return inner_->group->broadcast(tensors, options); }, std::move(outcome));
}

std::unique_ptr<Gloo> join_gloo(const Store &store, rust::Str prefix, rust::Str address, std::int32_t rank,
                                std::int32_t world_size, std::uint64_t timeout_ms) {
    auto options = c10d::ProcessGroupGloo::Options::create(Milliseconds(timeout_ms));
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(std::string(address)));
    auto keys = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store.inner().store);
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(std::move(keys), rank, world_size, std::move(options));
    return std::make_unique<Gloo>(std::make_unique<Gloo::Inner>(Gloo::Inner{std::move(group)}));
}

}  // namespace nettailor
