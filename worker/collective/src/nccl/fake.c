/* NCCL and the CUDA driver as far as this crate calls them, on the memory of one process whose threads are the ranks. Built
 * by the tests as two libraries, libcuda.so (-DDRIVER) and libnccl.so (-DNCCL), loaded in place of the real ones.
 * Nothing is ever freed: tests are short. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct stream stream;
void fake_enqueue(stream *s, void (*run)(void *), void *arg);

static void *new(size_t size) { return calloc(1, size); }

#ifdef DRIVER

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_READY = 600 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* A stream is a thread with a queue. The null stream is the host itself: torch's kernels on host memory. */
typedef struct task { void (*run)(void *); void *arg; struct task *next; } task;
struct stream { task *first, **last; };

static void *work(void *arg) {
    stream *s = arg;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!s->first) pthread_cond_wait(&changed, &lock);
        task *t = s->first;
        s->first = t->next;
        if (!s->first) s->last = &s->first;
        pthread_mutex_unlock(&lock);
        t->run(t->arg);
    }
    return NULL;
}

void fake_enqueue(stream *s, void (*run)(void *), void *arg) {
    task *t = new(sizeof *t);
    t->run = run;
    t->arg = arg;
    pthread_mutex_lock(&lock);
    *s->last = t;
    s->last = &t->next;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

typedef struct { int over; } event;

static void reach(void *arg) {
    pthread_mutex_lock(&lock);
    ((event *)arg)->over = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await(void *arg) {
    pthread_mutex_lock(&lock);
    while (!((event *)arg)->over) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)(intptr_t)(device + 1), SUCCESS; }
int cuCtxSetCurrent(void *context) { return context ? SUCCESS : INVALID_VALUE; }
int cuGetErrorString(int error, const char **text) { return *text = error ? "an error of the fake" : "none", SUCCESS; }

int cuStreamCreate(stream **s, unsigned flags) {
    pthread_t thread;
    if (flags != 1) return INVALID_VALUE; /* any other would wait for the null stream */
    *s = new(sizeof **s);
    (*s)->last = &(*s)->first;
    return pthread_create(&thread, NULL, work, *s) || pthread_detach(thread) ? INVALID_VALUE : SUCCESS;
}
int cuStreamDestroy_v2(stream *s) { return s ? SUCCESS : INVALID_VALUE; }
int cuStreamWaitEvent(stream *s, event *e, unsigned flags) {
    if (s) fake_enqueue(s, await, e);
    else await(e);
    return flags ? INVALID_VALUE : SUCCESS;
}
int cuEventCreate(event **e, unsigned flags) { (void)flags; return *e = new(sizeof **e), SUCCESS; }
int cuEventDestroy_v2(event *e) { return e ? SUCCESS : INVALID_VALUE; }
int cuEventRecord(event *e, stream *s) {
    if (s) fake_enqueue(s, reach, e);
    else reach(e);
    return SUCCESS;
}
int cuEventQuery(event *e) {
    pthread_mutex_lock(&lock);
    int over = e->over;
    pthread_mutex_unlock(&lock);
    return over ? SUCCESS : NOT_READY;
}

#endif
#ifdef NCCL

enum { OK = 0, INVALID_ARGUMENT = 4, REMOTE_ERROR = 6, IN_PROGRESS = 7 };
enum { INT32 = 2, INT64 = 4, FLOAT32 = 7, FLOAT64 = 8, BFLOAT16 = 9 };
enum { SUM = 0, MAX_RANKS = 8, SLOTS = 1024, FATAL_COUNT = 13 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

typedef struct { char internal[128]; } unique_id;
typedef struct { size_t size; unsigned magic, version; int blocking; } config; /* its first fields */

/* What one call means to all ranks: where each rank's numbers are. */
typedef struct { void *data[MAX_RANKS]; int arrived, over; } slot;
typedef struct group { unique_id id; int world_size, joined, taken[MAX_RANKS]; slot slots[SLOTS]; struct group *next; } group;
typedef struct { group *group; int rank, polls, error, aborted; unsigned calls; } comm;
typedef struct { comm *comm; slot *slot; void *data; size_t count; int kind, root; } operation;

static group *groups;

static size_t width(int kind) {
    switch (kind) {
    case BFLOAT16: return 2;
    case INT32: case FLOAT32: return 4;
    case INT64: case FLOAT64: return 8;
    default: return 0;
    }
}

static float widen(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    return memcpy(&value, &bits, sizeof value), value;
}
static uint16_t narrow(float value) { /* towards zero: exact for the tests' small numbers */
    uint32_t bits;
    return memcpy(&bits, &value, sizeof bits), (uint16_t)(bits >> 16);
}

#define ADD(type) for (size_t i = 0; i < o->count; i++) ((type *)into)[i] += ((const type *)from)[i]
static void add(const operation *o, void *into, const void *from) {
    switch (o->kind) {
    case INT32: ADD(int32_t); break;
    case INT64: ADD(int64_t); break;
    case FLOAT32: ADD(float); break;
    case FLOAT64: ADD(double); break;
    case BFLOAT16:
        for (size_t i = 0; i < o->count; i++)
            ((uint16_t *)into)[i] = narrow(widen(((uint16_t *)into)[i]) + widen(((const uint16_t *)from)[i]));
    }
}

/* On the stream: waits for the other ranks; the last one to come does it for all. */
static void run(void *arg) {
    operation *o = arg;
    slot *s = o->slot;
    size_t bytes = o->count * width(o->kind);
    int world_size = o->comm->group->world_size;
    pthread_mutex_lock(&lock);
    s->data[o->comm->rank] = o->data;
    if (++s->arrived == world_size && !o->comm->error) {
        void *result = new(bytes ? bytes : 1);
        memcpy(result, s->data[o->root < 0 ? 0 : o->root], bytes);
        for (int rank = 1; o->root < 0 && rank < world_size; rank++) add(o, result, s->data[rank]);
        for (int rank = 0; rank < world_size; rank++) memcpy(s->data[rank], result, bytes);
        s->over = 1;
        pthread_cond_broadcast(&changed);
    }
    while (!s->over && !o->comm->aborted) pthread_cond_wait(&changed, &lock);
    if (!s->over) s->arrived -= MAX_RANKS; /* whoever comes now must not touch this rank's memory */
    pthread_mutex_unlock(&lock);
}

static int begin(comm *c, void *data, size_t count, int kind, int root, stream *s) {
    if (!c || !s || !width(kind) || root >= c->group->world_size) return INVALID_ARGUMENT;
    operation *o = new(sizeof *o);
    pthread_mutex_lock(&lock);
    *o = (operation){c, &c->group->slots[c->calls++ % SLOTS], data, count, kind, root};
    c->polls = 2;
    if (count == FATAL_COUNT) c->error = REMOTE_ERROR; /* as when the other end of a connection dies */
    pthread_mutex_unlock(&lock);
    fake_enqueue(s, run, o);
    return IN_PROGRESS;
}

int ncclGetUniqueId(unique_id *id) {
    static unsigned count;
    pthread_mutex_lock(&lock);
    group *g = new(sizeof *g);
    g->id.internal[0] = -1; /* bytes above 127 must survive the journey */
    memcpy(g->id.internal + 100, &(unsigned){++count}, sizeof count);
    g->next = groups;
    groups = g;
    *id = g->id;
    pthread_mutex_unlock(&lock);
    return OK;
}

int ncclCommInitRankConfig(comm **c, int world_size, unique_id id, int rank, const config *k) {
    if (k->magic != 0xcafebeef || k->blocking != 0 || world_size > MAX_RANKS || rank >= world_size) return INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    group *g = groups;
    while (g && memcmp(&g->id, &id, sizeof id)) g = g->next;
    int fits = g && !g->taken[rank] && (g->world_size == 0 || g->world_size == world_size);
    if (fits) {
        g->world_size = world_size;
        g->taken[rank] = 1;
        g->joined++;
        *c = new(sizeof **c);
        **c = (comm){.group = g, .rank = rank};
    }
    pthread_mutex_unlock(&lock);
    return fits ? IN_PROGRESS : INVALID_ARGUMENT;
}

int ncclCommGetAsyncError(comm *c, int *state) {
    pthread_mutex_lock(&lock);
    int busy = c->group->joined < c->group->world_size || c->polls > 0;
    if (c->polls > 0) c->polls--;
    *state = c->error ? c->error : busy ? IN_PROGRESS : OK;
    pthread_mutex_unlock(&lock);
    return OK;
}

int ncclCommAbort(comm *c) {
    pthread_mutex_lock(&lock);
    c->aborted = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return OK;
}

int ncclAllReduce(const void *from, void *into, size_t count, int kind, int op, comm *c, stream *s) {
    return from != into || op != SUM ? INVALID_ARGUMENT : begin(c, into, count, kind, -1, s);
}

int ncclBroadcast(const void *from, void *into, size_t count, int kind, int root, comm *c, stream *s) {
    return from != into || root < 0 ? INVALID_ARGUMENT : begin(c, into, count, kind, root, s);
}

const char *ncclGetErrorString(int error) { return error == REMOTE_ERROR ? "remote process exited" : "some error"; }
const char *ncclGetLastError(comm *c) { return (void)c, "as the fake was told"; }

#endif
