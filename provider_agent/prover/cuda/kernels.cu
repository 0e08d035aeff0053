// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of a proof: entries of A and B, hashes of leaves and of nodes (format v2); and
// those of an acceptance challenge, at the end.
//
// Written in what CUDA C++ and C have in common, without shared memory and barriers, so that the
// tests compile this very file with a C compiler and run every thread of a grid one by one. One
// thread does one block of words, one leaf or one node; nothing is shared between threads.
//
// All arithmetic is on integers. The costs are 32-bit operations of one thread, counted in the
// source and not measured: a Keccak permutation about 4,300 (24 rounds of 180), a squaring modulo
// 2^256 - 189 about 250, laying out the 30 entries of a word about 40.

typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __cplusplus
#define KERNEL extern "C" __global__ void
#else
#define KERNEL void
#endif

// ---------------------------------------------------------------------------------- Keccak-f[1600]

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
// Lane (x, y) after theta and rho; pi is in where ROW puts it.
#define LANE(x, y, n) ROTATE(a[x + 5 * y] ^ d##x, n)
#define ROW(y, b0, b1, b2, b3, b4)                                                                 \
    do {                                                                                           \
        const u64 r0 = b0, r1 = b1, r2 = b2, r3 = b3, r4 = b4;                                     \
        e[5 * y + 0] = r0 ^ (~r1 & r2);                                                            \
        e[5 * y + 1] = r1 ^ (~r2 & r3);                                                            \
        e[5 * y + 2] = r2 ^ (~r3 & r4);                                                            \
        e[5 * y + 3] = r3 ^ (~r4 & r0);                                                            \
        e[5 * y + 4] = r4 ^ (~r0 & r1);                                                            \
    } while (0)

__constant__ u64 ROUND_CONSTANTS[24] = {
    0x0000000000000001ull, 0x0000000000008082ull, 0x800000000000808aull, 0x8000000080008000ull,
    0x000000000000808bull, 0x0000000080000001ull, 0x8000000080008081ull, 0x8000000000008009ull,
    0x000000000000008aull, 0x0000000000000088ull, 0x0000000080008009ull, 0x000000008000000aull,
    0x000000008000808bull, 0x800000000000008bull, 0x8000000000008089ull, 0x8000000000008003ull,
    0x8000000000008002ull, 0x8000000000000080ull, 0x000000000000800aull, 0x800000008000000aull,
    0x8000000080008081ull, 0x8000000000008080ull, 0x0000000080000001ull, 0x8000000080008008ull,
};

// One round from a to e; every index is a constant, so both states stay in registers.
__device__ __forceinline__ void keccak_round(const u64 *a, u64 *e, u64 constant)
{
    const u64 c0 = a[0] ^ a[5] ^ a[10] ^ a[15] ^ a[20];
    const u64 c1 = a[1] ^ a[6] ^ a[11] ^ a[16] ^ a[21];
    const u64 c2 = a[2] ^ a[7] ^ a[12] ^ a[17] ^ a[22];
    const u64 c3 = a[3] ^ a[8] ^ a[13] ^ a[18] ^ a[23];
    const u64 c4 = a[4] ^ a[9] ^ a[14] ^ a[19] ^ a[24];
    const u64 d0 = c4 ^ ROTATE(c1, 1);
    const u64 d1 = c0 ^ ROTATE(c2, 1);
    const u64 d2 = c1 ^ ROTATE(c3, 1);
    const u64 d3 = c2 ^ ROTATE(c4, 1);
    const u64 d4 = c3 ^ ROTATE(c0, 1);

    ROW(0, a[0] ^ d0, LANE(1, 1, 44), LANE(2, 2, 43), LANE(3, 3, 21), LANE(4, 4, 14));
    ROW(1, LANE(3, 0, 28), LANE(4, 1, 20), LANE(0, 2, 3), LANE(1, 3, 45), LANE(2, 4, 61));
    ROW(2, LANE(1, 0, 1), LANE(2, 1, 6), LANE(3, 2, 25), LANE(4, 3, 8), LANE(0, 4, 18));
    ROW(3, LANE(4, 0, 27), LANE(0, 1, 36), LANE(1, 2, 10), LANE(2, 3, 15), LANE(3, 4, 56));
    ROW(4, LANE(2, 0, 62), LANE(3, 1, 55), LANE(4, 2, 39), LANE(0, 3, 41), LANE(1, 4, 2));
    e[0] ^= constant;
}

// Two rounds a step need no moves between the states, four a step hide the loop, and the code
// stays well inside the instruction cache, which 24 rounds (about 70 KB) would not.
__device__ __forceinline__ void keccak_f(u64 *a)
{
    u64 e[25];
    u32 r;
#pragma unroll 2
    for (r = 0; r < 24; r += 2) {
        keccak_round(a, e, ROUND_CONSTANTS[r]);
        keccak_round(e, a, ROUND_CONSTANTS[r + 1]);
    }
}

// Lanes 0 to 16 take in data; Ethereum's padding is 0x01 after it and 0x80 at the end of lane 16.
#define RATE_LANES 17
#define PAD_FIRST 0x01ull
#define PAD_LAST 0x8000000000000000ull

__device__ __forceinline__ u32 reverse_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

__device__ __forceinline__ u64 reverse_bytes_64(u64 x)
{
    return (u64)reverse_bytes((u32)x) << 32 | reverse_bytes((u32)(x >> 32));
}

// ------------------------------------------------------------------------------------ the entries

// w = w^2 modulo p = 2^256 - 189, the least residue. w: 8 limbs of 32 bits, the lowest first.
__device__ __forceinline__ void square(u32 *w)
{
    u32 r[16];
    u32 carry, i, j;
    u64 t;

    // The products of different limbs, once each. No step overflows:
    // (2^32 - 1)^2 + 2 (2^32 - 1) = 2^64 - 1.
#pragma unroll
    for (i = 0; i < 16; i++)
        r[i] = 0;
#pragma unroll
    for (i = 0; i < 7; i++) {
        carry = 0;
#pragma unroll
        for (j = i + 1; j < 8; j++) {
            t = (u64)w[i] * w[j] + r[i + j] + carry;
            r[i + j] = (u32)t;
            carry = (u32)(t >> 32);
        }
        r[i + 8] = carry;
    }
    // Twice that, and the squares of the limbs.
#pragma unroll
    for (i = 15; i > 0; i--)
        r[i] = r[i] << 1 | r[i - 1] >> 31;
    r[0] = 0; // no product of different limbs is that low
    carry = 0;
#pragma unroll
    for (i = 0; i < 8; i++) {
        const u64 own = (u64)w[i] * w[i];
        t = (u64)r[2 * i] + (u32)own + carry;
        r[2 * i] = (u32)t;
        t = (u64)r[2 * i + 1] + (u32)(own >> 32) + (u32)(t >> 32);
        r[2 * i + 1] = (u32)t;
        carry = (u32)(t >> 32);
    }
    // 2^256 is 189 modulo p: fold the upper half, then what spills over (at most 189).
    carry = 0;
#pragma unroll
    for (i = 0; i < 8; i++) {
        t = (u64)r[i + 8] * 189 + r[i] + carry;
        w[i] = (u32)t;
        carry = (u32)(t >> 32);
    }
    t = (u64)carry * 189 + w[0];
    w[0] = (u32)t;
    carry = (u32)(t >> 32);
    if (carry) { // once in 100,000 squarings or less
#pragma unroll
        for (i = 1; i < 8; i++) {
            t = (u64)w[i] + carry;
            w[i] = (u32)t;
            carry = (u32)(t >> 32);
        }
        if (carry)
            w[0] += 189; // all that is left is below 189 * 189
    }
    // p itself and the 188 values above it.
    if (w[0] >= 0xffffff43u && (w[1] & w[2] & w[3] & w[4] & w[5] & w[6] & w[7]) == 0xffffffffu) {
        w[0] += 189;
#pragma unroll
        for (i = 1; i < 8; i++)
            w[i] = 0;
    }
}

// The byte of a word that is its entry number n (0..29): 3 lane + phase, in B from the last lane.
#define SOURCE(reversed, n) (3 * ((reversed) ? 9 - (n) % 10 : (n) % 10) + (n) / 10)
// That byte's place in the limbs of two words (n: 0..59).
#define PLACE(reversed, n) (32 * ((n) / 30) + SOURCE(reversed, (n) % 30))

// Bytes number p and q of the limbs m, as the two lowest bytes.
__device__ __forceinline__ u32 two_bytes(const u32 *m, u32 p, u32 q)
{
    return __byte_perm(m[p / 4], m[q / 4], p % 4 | (4 + q % 4) << 4);
}

// One block of 16 words: 480 entries of one byte, neighbours in a row. The seed is four lanes,
// its bytes 0..7 in s0, lowest byte first. Sixteen entries go out at a time.
__device__ __forceinline__ void generate_block(u32 reversed, u64 s0, u64 s1, u64 s2, u64 s3,
                                               u32 row, u32 block, uint4 *out)
{
    u64 a[25];
    u32 w[8], m[16], entries[60];
    u32 half, pair, i;

    // H(seed | (row << 128) + block): the message is eight lanes.
#pragma unroll
    for (i = 0; i < 25; i++)
        a[i] = 0;
    a[0] = s0;
    a[1] = s1;
    a[2] = s2;
    a[3] = s3;
    a[5] = reverse_bytes_64(row);
    a[7] = reverse_bytes_64(block);
    a[8] = PAD_FIRST;
    a[RATE_LANES - 1] = PAD_LAST;
    keccak_f(a);
    // The hash is a big-endian integer.
#pragma unroll
    for (i = 0; i < 4; i++) {
        w[7 - 2 * i] = reverse_bytes((u32)a[i]);
        w[6 - 2 * i] = reverse_bytes((u32)(a[i] >> 32));
    }

    // Two words are 60 entries, 15 times four; eight words are 15 times sixteen.
#pragma unroll 1
    for (half = 0; half < 2; half++) {
#pragma unroll
        for (pair = 0; pair < 4; pair++) {
            if (half + pair > 0)
                square(w);
#pragma unroll
            for (i = 0; i < 8; i++)
                m[i] = w[i] & 0x7f7f7f7fu;
            square(w);
#pragma unroll
            for (i = 0; i < 8; i++)
                m[8 + i] = w[i] & 0x7f7f7f7fu;
#pragma unroll
            for (i = 0; i < 15; i++)
                entries[15 * pair + i] =
                    __byte_perm(two_bytes(m, PLACE(reversed, 4 * i), PLACE(reversed, 4 * i + 1)),
                                two_bytes(m, PLACE(reversed, 4 * i + 2), PLACE(reversed, 4 * i + 3)),
                                0x5410);
#pragma unroll
            for (i = 15 * pair / 4; i < 15 * (pair + 1) / 4; i++) {
                uint4 sixteen;
                sixteen.x = entries[4 * i];
                sixteen.y = entries[4 * i + 1];
                sixteen.z = entries[4 * i + 2];
                sixteen.w = entries[4 * i + 3];
                out[15 * half + i] = sixteen;
            }
        }
    }
}

// Rows first, first + 1, ... of A, `blocks` blocks each, `count` blocks in all.
KERNEL __launch_bounds__(128) generate_a(u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 blocks,
                                         u32 count, uint4 *out)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number < count)
        generate_block(0, s0, s1, s2, s3, first + number / blocks, number % blocks,
                       out + (u64)number * 30);
}

// The same for columns of B, whose lanes run backwards.
KERNEL __launch_bounds__(128) generate_b(u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 blocks,
                                         u32 count, uint4 *out)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number < count)
        generate_block(1, s0, s1, s2, s3, first + number / blocks, number % blocks,
                       out + (u64)number * 30);
}

// -------------------------------------------------------------------------------------- the tree

// Four sums modulo 2^8, the first one lowest.
__device__ __forceinline__ u32 low_bytes(int4 sums)
{
    return __byte_perm(__byte_perm((u32)sums.x, (u32)sums.y, 0x0040),
                       __byte_perm((u32)sums.z, (u32)sums.w, 0x0040), 0x5410);
}

__device__ __forceinline__ void store_hash(const u64 *a, ulonglong2 *out)
{
    ulonglong2 half;
    half.x = a[0];
    half.y = a[1];
    out[0] = half;
    half.x = a[2];
    half.y = a[3];
    out[1] = half;
}

// Hashes of the `count` leaves (512 sums each) of a tile of C. The tile has `across` leaves in a
// row, the whole product `stride`; its first leaf is number `first` of the tree. With 256 columns
// a leaf is two rows: `across` and `stride` are then 1, and the rows are those of the leaves.
KERNEL __launch_bounds__(128) hash_leaves(const int4 *__restrict__ c, ulonglong2 *tree, u32 across,
                                          u32 stride, u32 first, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    u64 a[25];
    u32 part, i;
    if (number >= count)
        return;
    c += (u64)number * 128;
#pragma unroll
    for (i = 0; i < 25; i++)
        a[i] = 0;
    // 64 lanes of data, eight sums each, in four parts of 17; the last has 13 and the padding.
#pragma unroll 1
    for (part = 0; part < 4; part++) {
#pragma unroll
        for (i = 0; i < RATE_LANES; i++)
            if (RATE_LANES * part + i < 64)
                a[i] ^= (u64)low_bytes(c[2 * (RATE_LANES * part + i) + 1]) << 32 |
                        low_bytes(c[2 * (RATE_LANES * part + i)]);
        if (part == 3) {
            a[64 - 3 * RATE_LANES] ^= PAD_FIRST;
            a[RATE_LANES - 1] ^= PAD_LAST;
        }
        keccak_f(a);
    }
    store_hash(a, tree + 2 * (u64)(first + number / across * stride + number % across));
}

// One level of the tree: node k above is H(node 2k | node 2k + 1) below.
KERNEL __launch_bounds__(128) hash_nodes(const ulonglong2 *__restrict__ below, ulonglong2 *above,
                                         u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    u64 a[25];
    u32 i;
    if (number >= count)
        return;
#pragma unroll
    for (i = 8; i < 25; i++)
        a[i] = 0;
#pragma unroll
    for (i = 0; i < 4; i++) {
        const ulonglong2 half = below[4 * (u64)number + i];
        a[2 * i] = half.x;
        a[2 * i + 1] = half.y;
    }
    a[8] = PAD_FIRST;
    a[RATE_LANES - 1] = PAD_LAST;
    keccak_f(a);
    store_hash(a, above + 2 * (u64)number);
}

// ------------------------------------------------------------------- memory of an acceptance challenge
//
// A block of the memory is 672 words. Those of 32 blocks lie together, word by word, so that the
// threads of a warp, a block each, read and write neighbours.

#define SHAKE_LANES 21
#define SHAKE_PAD 0x1full
#define MEMORY_PIECES 32
#define MEMORY_STRIDE 16
#define MEMORY_WORDS (SHAKE_LANES * MEMORY_PIECES)
#define DIGESTS_PER_LEAF 512

__device__ __forceinline__ u64 memory_word(u32 block, u32 word)
{
    return ((u64)(block / 32) * MEMORY_WORDS + word) * 32 + block % 32;
}

// Blocks first, first + 1, ...: of the stream of SHAKE128(seed | block), every 16th permutation
// gives 21 words.
KERNEL __launch_bounds__(128) fill_memory(u64 s0, u64 s1, u64 s2, u64 s3, u32 first, u32 count,
                                          u64 *memory)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 block = first + number;
    u64 a[25];
    u32 piece, step, i;
    if (number >= count)
        return;
#pragma unroll
    for (i = 0; i < 25; i++)
        a[i] = 0;
    a[0] = s0;
    a[1] = s1;
    a[2] = s2;
    a[3] = s3;
    a[7] = reverse_bytes_64(block);
    a[8] = SHAKE_PAD;
    a[SHAKE_LANES - 1] = PAD_LAST;
#pragma unroll 1
    for (piece = 0; piece < MEMORY_PIECES; piece++) {
#pragma unroll 1
        for (step = 0; step < MEMORY_STRIDE; step++)
            keccak_f(a);
#pragma unroll
        for (i = 0; i < SHAKE_LANES; i++)
            memory[memory_word(block, SHAKE_LANES * piece + i)] = a[i];
    }
}

// The digest of each of `blocks` blocks, zeros up to `count`.
KERNEL __launch_bounds__(128) sweep_memory(const u64 *__restrict__ memory,
                                           const u64 *__restrict__ factors, u64 *digests,
                                           u32 blocks, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    u64 sum = 0;
    u32 word;
    if (number >= count)
        return;
    if (number < blocks) {
#pragma unroll 16
        for (word = 0; word < MEMORY_WORDS; word++)
            sum += memory[memory_word(number, word)] * factors[word];
    }
    digests[number] = sum;
}

// The lowest level of a sweep's tree: hashes of `leaves` leaves of 512 digests, zeros up to `count`.
KERNEL __launch_bounds__(128) hash_digests(const u64 *__restrict__ digests, ulonglong2 *tree,
                                           u32 leaves, u32 count)
{
    const u32 number = blockIdx.x * blockDim.x + threadIdx.x;
    u64 a[25];
    u32 part, i;
    if (number >= count)
        return;
#pragma unroll
    for (i = 0; i < 25; i++)
        a[i] = 0;
    if (number < leaves) {
        digests += (u64)number * DIGESTS_PER_LEAF;
        // 30 parts of 17 lanes; the last part has two and the padding.
#pragma unroll 1
        for (part = 0; part < 31; part++) {
#pragma unroll
            for (i = 0; i < RATE_LANES; i++)
                if (RATE_LANES * part + i < DIGESTS_PER_LEAF)
                    a[i] ^= digests[RATE_LANES * part + i];
            if (part == 30) {
                a[DIGESTS_PER_LEAF - 30 * RATE_LANES] ^= PAD_FIRST;
                a[RATE_LANES - 1] ^= PAD_LAST;
            }
            keccak_f(a);
        }
    }
    store_hash(a, tree + 2 * (u64)number);
}
