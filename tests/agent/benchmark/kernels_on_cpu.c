// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels as a plain C library: the few CUDA names that they use, and a grid whose threads
// run one after the other. Built by cuda_on_cpu.py, which passes their paths.

#define __global__
#define __device__
#define __constant__ static const
#define __forceinline__ static inline
#define __launch_bounds__(threads)

typedef struct { unsigned int x, y, z, w; } __attribute__((aligned(16))) uint4;
typedef struct { int x, y, z, w; } __attribute__((aligned(16))) int4;
typedef struct { float x, y, z, w; } __attribute__((aligned(16))) float4;
typedef struct { unsigned long long x, y; } __attribute__((aligned(16))) ulonglong2;

static struct { unsigned int x; } blockIdx, blockDim, threadIdx;

// Four bytes chosen out of eight by the four low half-bytes of the selector.
static inline unsigned int __byte_perm(unsigned int low, unsigned int high, unsigned int selector)
{
    const unsigned long long all = (unsigned long long)high << 32 | low;
    unsigned int result = 0, k;
    for (k = 0; k < 4; k++)
        result |= (unsigned int)(all >> 8 * (selector >> 4 * k & 7) & 0xff) << 8 * k;
    return result;
}

#include KERNELS
#include PRODUCTS

#define GRID(call)                                                                                 \
    do {                                                                                           \
        blockDim.x = threads;                                                                      \
        for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)                                    \
            for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)                            \
                call;                                                                              \
    } while (0)

void grid_generate_a(u32 blocks, u32 threads, u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 depth,
                     u32 count, uint4 *out)
{
    GRID(generate_a(s0, s1, s2, s3, first, depth, count, out));
}

void grid_generate_b(u32 blocks, u32 threads, u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 depth,
                     u32 count, uint4 *out)
{
    GRID(generate_b(s0, s1, s2, s3, first, depth, count, out));
}

void grid_hash_leaves(u32 blocks, u32 threads, const int4 *c, ulonglong2 *tree, u32 across,
                      u32 stride, u32 first, u32 count)
{
    GRID(hash_leaves(c, tree, across, stride, first, count));
}

void grid_hash_nodes(u32 blocks, u32 threads, const ulonglong2 *below, ulonglong2 *above, u32 count)
{
    GRID(hash_nodes(below, above, count));
}

void grid_fill_memory(u32 blocks, u32 threads, u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 count,
                      u64 *memory)
{
    GRID(fill_memory(s0, s1, s2, s3, first, count, memory));
}

void grid_sweep_memory(u32 blocks, u32 threads, const u64 *memory, const u64 *factors, u64 *digests,
                       u32 filled, u32 count)
{
    GRID(sweep_memory(memory, factors, digests, filled, count));
}

void grid_hash_digests(u32 blocks, u32 threads, const u64 *digests, ulonglong2 *tree, u32 leaves,
                       u32 count)
{
    GRID(hash_digests(digests, tree, leaves, count));
}

void grid_centre_bf16(u32 blocks, u32 threads, const uint4 *raw, uint4 *out, u32 count)
{
    GRID(centre_bf16(raw, out, count));
}

void grid_centre_fp16(u32 blocks, u32 threads, const uint4 *raw, uint4 *out, u32 count)
{
    GRID(centre_fp16(raw, out, count));
}

void grid_add_blocks(u32 blocks, u32 threads, const uint4 *raw, int *part, u32 count)
{
    GRID(add_blocks(raw, part, count));
}

void grid_add_rows(u32 blocks, u32 threads, const int *part, int *sums, u32 across, u32 count)
{
    GRID(add_rows(part, sums, across, count));
}

void grid_restore(u32 blocks, u32 threads, float4 *c, const int *of_rows, const int4 *of_columns,
                  u32 across, u32 depth, u32 count)
{
    GRID(restore(c, of_rows, of_columns, across, depth, count));
}

// The product that cuBLAS does on a GPU: A by rows, B by columns, sums in 32 bits.
void int8_product(const signed char *a, const signed char *b, int *c, u32 rows, u32 columns,
                  u32 depth)
{
    u32 i, j, k;
    for (i = 0; i < rows; i++)
        for (j = 0; j < columns; j++) {
            const signed char *left = a + (u64)i * depth, *right = b + (u64)j * depth;
            int sum = 0;
            for (k = 0; k < depth; k++)
                sum += left[k] * right[k];
            c[(u64)i * columns + j] = sum;
        }
}

// A part that random words reach once in 2^250 cases has its own door.
void one_square(u32 *word) { square(word); }
