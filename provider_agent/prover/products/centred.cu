// SPDX-License-Identifier: Apache-2.0
// What a centred product on a GPU needs beside cuBLAS: entries less 64 as bf16 or fp16, the sums of
// the original entries, and the sums of the format from those of the product.
//
// Like kernels.cu it is written in what CUDA C++ and C have in common, so that the tests run this
// very file on the CPU. The two types are put together from their bits: an integer of 7 bits needs
// no rounding in either, and no header of CUDA is asked for.

typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef KERNEL
#ifdef __cplusplus
#define KERNEL extern "C" __global__ void
#else
#define KERNEL void
#endif
#endif

#define BF16_BITS 7
#define BF16_BIAS 127
#define FP16_BITS 10
#define FP16_BIAS 15
#define UINT4S_OF_A_BLOCK 30

// An entry less 64 in a type with so many bits after the point, 16 bits in all.
__device__ __forceinline__ u32 centred(u32 entry, u32 bits, u32 bias)
{
    const u32 sign = entry < 64 ? 0x8000 : 0, size = entry < 64 ? 64 - entry : entry - 64;
    const u32 high = (size > 1) + (size > 3) + (size > 7) + (size > 15) + (size > 31) + (size > 63);
    return size == 0 ? 0 : sign | (high + bias) << bits | (size << (bits - high) & ((1u << bits) - 1));
}

__device__ __forceinline__ u32 pair(u32 entries, u32 bits, u32 bias)
{
    return centred(entries & 0xff, bits, bias) | centred(entries >> 8 & 0xff, bits, bias) << 16;
}

__device__ __forceinline__ uint4 eight(u32 low, u32 high, u32 bits, u32 bias)
{
    uint4 result;
    result.x = pair(low & 0xffff, bits, bias);
    result.y = pair(low >> 16, bits, bias);
    result.z = pair(high & 0xffff, bits, bias);
    result.w = pair(high >> 16, bits, bias);
    return result;
}

// One thread turns 16 entries into 32 bytes.
KERNEL __launch_bounds__(128) centre_bf16(const uint4 *__restrict__ raw, uint4 *out, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    uint4 entries;
    if (number >= count)
        return;
    entries = raw[number];
    out[2 * (u64)number] = eight(entries.x, entries.y, BF16_BITS, BF16_BIAS);
    out[2 * (u64)number + 1] = eight(entries.z, entries.w, BF16_BITS, BF16_BIAS);
}

KERNEL __launch_bounds__(128) centre_fp16(const uint4 *__restrict__ raw, uint4 *out, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    uint4 entries;
    if (number >= count)
        return;
    entries = raw[number];
    out[2 * (u64)number] = eight(entries.x, entries.y, FP16_BITS, FP16_BIAS);
    out[2 * (u64)number + 1] = eight(entries.z, entries.w, FP16_BITS, FP16_BIAS);
}

// One thread adds the 480 entries of a block; four bytes at once, since two fit 16 bits.
KERNEL __launch_bounds__(128) add_blocks(const uint4 *__restrict__ raw, int *part, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    u32 even = 0, odd = 0, i;
    if (number >= count)
        return;
    raw += (u64)number * UINT4S_OF_A_BLOCK;
    for (i = 0; i < UINT4S_OF_A_BLOCK; i++) {
        const uint4 four = raw[i];
        // 30 * 4 * 127 is below 2^16.
        even += (four.x & 0x00ff00ff) + (four.y & 0x00ff00ff) + (four.z & 0x00ff00ff)
                + (four.w & 0x00ff00ff);
        odd += (four.x >> 8 & 0x00ff00ff) + (four.y >> 8 & 0x00ff00ff) + (four.z >> 8 & 0x00ff00ff)
               + (four.w >> 8 & 0x00ff00ff);
    }
    part[number] = (int)((even & 0xffff) + (even >> 16) + (odd & 0xffff) + (odd >> 16));
}

// One thread adds the blocks of a row.
KERNEL __launch_bounds__(128) add_rows(const int *__restrict__ part, int *sums, u32 blocks, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    int sum = 0;
    u32 i;
    if (number >= count)
        return;
    part += (u64)number * blocks;
    for (i = 0; i < blocks; i++)
        sum += part[i];
    sums[number] = sum;
}

// Four sums of a row, in place, from float32 to int32. In this order nothing passes 32 bits.
KERNEL __launch_bounds__(128) restore(float4 *c, const int *__restrict__ of_rows,
                                      const int4 *__restrict__ of_columns, u32 across, u32 depth,
                                      u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    float4 given;
    int4 columns, result;
    int row;
    if (number >= count)
        return;
    given = c[number];
    columns = of_columns[number % across];
    row = 64 * (of_rows[number / across] - 64 * (int)depth);
    result.x = (int)given.x + row + 64 * columns.x;
    result.y = (int)given.y + row + 64 * columns.y;
    result.z = (int)given.z + row + 64 * columns.z;
    result.w = (int)given.w + row + 64 * columns.w;
    ((int4 *)c)[number] = result;
}
