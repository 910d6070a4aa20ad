/* The virtual card: what the parts of the library share.
 *
 * The library answers CUDA's runtime, driver and maths libraries in a process of bench's own. Memory is counted, nothing
 * is computed. Types are those of the binary interface: handles are pointers, enumerations are int, 0 is success.
 */
#ifndef CARD_H
#define CARD_H

#include <stddef.h>
#include <stdint.h>

typedef struct { unsigned x, y, z; } dim3;

/* The card's figures, set before CUDA is used. X(name) each; bench/virtual/figures.py names the same ones. */
#define FIGURES(X)                                                                                                     \
    X(total_bytes) X(context_bytes) X(major) X(minor) X(multiprocessors) X(threads_per_multiprocessor)                 \
    X(blocks_per_multiprocessor) X(shared_bytes_per_block) X(shared_bytes_per_block_optin)                             \
    X(shared_bytes_per_multiprocessor) X(reserved_shared_bytes_per_block) X(registers_per_multiprocessor)              \
    X(l2_bytes) X(clock_khz) X(memory_clock_khz) X(memory_bus_bits) X(fft_work_times)

#define FIELD(name) int64_t name;
extern struct card { FIGURES(FIELD) char name[256]; char cudnn_json[4096]; } card;
#undef FIELD
extern const int largest_grid[3], largest_block[3];

/* Which CUDA the callers are built for, 12000 or 13000, is told where the library is built (bench/virtual/library.py).
 * What the two have in different ways: fields and arguments that either alone has, and two functions' names. */
#if CUDA_VERSION < 13000
#define IN_12(...) __VA_ARGS__
#define IN_13(...)
#define cudaGetDeviceProperties cudaGetDeviceProperties_v2
#define cudaStreamGetCaptureInfo cudaStreamGetCaptureInfo_v2
#else
#define IN_12(...)
#define IN_13(...) __VA_ARGS__
#endif

enum { OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_SUPPORTED = 801 }; /* cudaError_t and CUresult alike */

void *new_handle(void);
void *device_address(size_t bytes);
int is_on_device(const void *pointer);
int64_t used_bytes(void);
void read_from_device(void *to, const void *from, size_t bytes);

/* Content of the device's memory, as far as it is known. */
void content_is_sent(const void *to, const void *from, size_t bytes);
void content_is_copied(const void *to, const void *from, size_t bytes);
void content_is_computed(void);
int content_at(const void *from, void *to, size_t bytes); /* whether it is known; `to` has it then */

/* What the caller is told at the end: the first function that is not known, and where sizes are bounds. */
int refuse(const char *function, int status);
void note_lower_bound(const char *function);
void note_upper_bound(const char *function);
void note_launch(const void *kernel);

#endif
