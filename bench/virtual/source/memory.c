/* Memory: the device's is counted and has addresses but no content; the host's is real.
 *
 * Addresses rise, as on a card on which nothing else runs, and are never given twice: PyTorch's allocator breaks ties
 * by address. They begin where Linux gives no process anything of its own accord.
 */
#include "card.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ADDRESS ((uintptr_t)1 << 44)
#define PAGE ((uintptr_t)2 << 20)
#define SLOTS 65536 /* of the table of allocations: a power of two */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t next_address = FIRST_ADDRESS;
static int64_t used;

struct entry { uintptr_t address; size_t bytes; };
static struct entry *device_table, *host_table; /* open addressing; bytes stay, address 1 marks what is removed */

static struct entry *find(struct entry **table, uintptr_t address, int to_add) {
    if (!*table && !(*table = calloc(SLOTS, sizeof **table))) abort();
    for (size_t tried = 0, slot = address * 0x9E3779B97F4A7C15u >> 48; tried < SLOTS; tried++, slot = (slot + 1) % SLOTS) {
        struct entry *entry = *table + slot;
        if (entry->address == address || (to_add && entry->address <= 1)) return entry;
        if (!entry->address) return NULL;
    }
    return NULL;
}

static void add(struct entry **table, const void *pointer, size_t bytes) {
    struct entry *entry = find(table, (uintptr_t)pointer, 1);
    if (!entry) abort();
    *entry = (struct entry){(uintptr_t)pointer, bytes};
}

static size_t take_out(struct entry **table, const void *pointer) {
    struct entry *entry = pointer ? find(table, (uintptr_t)pointer, 0) : NULL;
    if (!entry) return 0;
    entry->address = 1;
    return entry->bytes;
}

static int charge(size_t bytes) {
    if (used + (int64_t)bytes > card.total_bytes - card.context_bytes) return OUT_OF_MEMORY;
    used += bytes;
    return 0;
}

static uintptr_t reserve(size_t bytes) {
    uintptr_t address = next_address;
    next_address += (bytes + PAGE - 1) / PAGE * PAGE;
    return address;
}

int is_on_device(const void *pointer) {
    return (uintptr_t)pointer >= FIRST_ADDRESS && (uintptr_t)pointer < next_address;
}

void *device_address(size_t bytes) {
    pthread_mutex_lock(&lock);
    uintptr_t address = reserve(bytes);
    pthread_mutex_unlock(&lock);
    return (void *)address;
}

int64_t used_bytes(void) { return used + card.context_bytes; }

int cudaMalloc(void **pointer, size_t bytes) {
    pthread_mutex_lock(&lock);
    int status = charge(bytes);
    *pointer = NULL;
    if (!status) add(&device_table, *pointer = (void *)reserve(bytes), bytes);
    pthread_mutex_unlock(&lock);
    return status;
}

int cudaFree(void *pointer) {
    pthread_mutex_lock(&lock);
    used -= take_out(&device_table, pointer);
    pthread_mutex_unlock(&lock);
    return 0;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = card.total_bytes - used_bytes();
    *total_bytes = card.total_bytes;
    return 0;
}

/* cudaMallocAsync's pools have a cache of the driver's own, whose rules are not known. */
int cudaMallocAsync(void **pointer, size_t bytes, void *stream) { return refuse("cudaMallocAsync", NOT_SUPPORTED); }

/* The virtual-memory calls, of expandable segments: only physical pieces are charged. */

int cuMemAddressReserve(uintptr_t *address, size_t bytes, size_t alignment, uintptr_t wish, unsigned long long flags) {
    *address = (uintptr_t)device_address(bytes);
    return 0;
}

int cuMemCreate(uintptr_t *piece, size_t bytes, const void *properties, unsigned long long flags) {
    pthread_mutex_lock(&lock);
    int status = charge(bytes);
    if (!status) add(&device_table, (void *)(*piece = (uintptr_t)new_handle()), bytes);
    pthread_mutex_unlock(&lock);
    return status;
}

int cuMemRelease(uintptr_t piece) { return cudaFree((void *)piece); }

int cuMemGetAllocationGranularity(size_t *bytes, const void *properties, int option) {
    *bytes = PAGE;
    return 0;
}

int cuMemMap(uintptr_t address, size_t bytes, size_t offset, uintptr_t piece, unsigned long long flags) { return 0; }
int cuMemUnmap(uintptr_t address, size_t bytes) { return 0; }
int cuMemSetAccess(uintptr_t address, size_t bytes, const void *access, size_t count) { return 0; }
int cuMemAddressFree(uintptr_t address, size_t bytes) { return 0; }

/* The host's memory. */

int cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    if (posix_memalign(pointer, 4096, bytes ? bytes : 1)) return OUT_OF_MEMORY;
    memset(*pointer, 0, bytes);
    pthread_mutex_lock(&lock);
    add(&host_table, *pointer, bytes);
    pthread_mutex_unlock(&lock);
    return 0;
}

int cudaFreeHost(void *pointer) {
    pthread_mutex_lock(&lock);
    take_out(&host_table, pointer);
    pthread_mutex_unlock(&lock);
    free(pointer);
    return 0;
}

int cudaHostRegister(void *pointer, size_t bytes, unsigned flags) {
    pthread_mutex_lock(&lock);
    add(&host_table, pointer, bytes);
    pthread_mutex_unlock(&lock);
    return 0;
}

int cudaHostUnregister(void *pointer) {
    pthread_mutex_lock(&lock);
    take_out(&host_table, pointer);
    pthread_mutex_unlock(&lock);
    return 0;
}

int cudaMallocHost(void **pointer, size_t bytes) { return cudaHostAlloc(pointer, bytes, 0); }

int cudaPointerGetAttributes(struct { int type, device; void *on_device, *on_host; long rest[8]; } *attributes,
                             const void *pointer) {
    enum { UNREGISTERED, HOST, DEVICE };
    memset(attributes, 0, sizeof *attributes);
    pthread_mutex_lock(&lock);
    int on_host = find(&host_table, (uintptr_t)pointer, 0) != NULL;
    pthread_mutex_unlock(&lock);
    attributes->type = is_on_device(pointer) ? DEVICE : on_host ? HOST : UNREGISTERED;
    if (attributes->type != UNREGISTERED) attributes->on_device = (void *)pointer;
    if (attributes->type == HOST) attributes->on_host = (void *)pointer;
    return 0;
}

/* Copies: what comes from the device is what values.c gives; what goes there is content.c's. */

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
    if (is_on_device(to)) (is_on_device(from) ? content_is_copied : content_is_sent)(to, from, bytes);
    else if (is_on_device(from)) read_from_device(to, from, bytes);
    else memmove(to, from, bytes);
    return 0;
}

int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    return cudaMemcpy(to, from, bytes, kind);
}

int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width, size_t height,
                      int kind, void *stream) {
    for (size_t row = 0; row < height; row++) cudaMemcpy(to + row * to_pitch, from + row * from_pitch, width, kind);
    return 0;
}
