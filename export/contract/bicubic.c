/* Resizes 8-bit RGB as PIL does with BICUBIC, to the last bit, several pixels at a time (x86-64 with AVX2, or better with VNNI).
 *
 * PIL multiplies one colour after another by weights of 22 bits. With AVX2 a weight is two numbers of 11 bits, so that one
 * instruction multiplies 16 colours and adds them in pairs; with VNNI it is three of 8, and one multiplies 32 and adds them in
 * fours. No bit is lost. `bicubic.py` makes the weights, brings every buffer and vouches for every length. Knows no picture
 * format and allocates nothing.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#if __has_include(<avx512vnniintrin.h>) /* an older compiler makes AVX2 alone */
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#endif

enum { COLOURS = 3, PAIR = 2, AT_ONCE = 4, MOST_ROWS = 4, LOW_BITS = 11, PARTS = 3, PART_BITS = 8, WEIGHT_BITS = 22 };

/* One axis, laid out for one of WAYS. Output i weighs `taps` inputs from first[i] on; those that it does not need weigh 0. `taps`
 * is a multiple of AT_ONCE. A word of `weights` is two 16-bit numbers, for two taps, the high parts before the low ones; for VNNI
 * four signed bytes, for four taps, the highest part first. */
typedef struct {
    int32_t way;
    int32_t inputs;
    int32_t outputs;
    int32_t taps;
    const int32_t *first;
    const int32_t *weights;
} Axis;

static __m256i rounded(__m256i high, __m256i low)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << (WEIGHT_BITS - 1))), WEIGHT_BITS);
}

/* Four taps of a row: of 12 bytes the first two pixels become [r r g g b b 0 0] and the other two likewise, 16 bits each. */
static __m256i four(const uint8_t *from)
{
    const __m256i in_pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
                                              6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from)), in_pairs);
}

/* Two rows at once, so that each weight is fetched for both. Here a weight's word is written four times, once for each colour. */
static void two_across(const uint8_t *const from[], uint8_t *const to[], const Axis *axis)
{
    const uint8_t *one = from[0], *two = from[1];
    uint8_t *out_one = to[0], *out_two = to[1];
    const __m256i *weight = (const __m256i *)axis->weights;
    for (int32_t x = 0; x < axis->outputs; x++, out_one += COLOURS, out_two += COLOURS) {
        size_t at = (size_t)axis->first[x] * COLOURS;
        __m256i high_one = _mm256_setzero_si256(), low_one = high_one, high_two = high_one, low_two = high_one;
        for (int32_t tap = 0; tap < axis->taps; tap += AT_ONCE, at += AT_ONCE * COLOURS, weight += 2) {
            __m256i high = _mm256_loadu_si256(weight), low = _mm256_loadu_si256(weight + 1);
            __m256i pixels_one = four(one + at), pixels_two = four(two + at);
            high_one = _mm256_add_epi32(high_one, _mm256_madd_epi16(pixels_one, high));
            low_one = _mm256_add_epi32(low_one, _mm256_madd_epi16(pixels_one, low));
            high_two = _mm256_add_epi32(high_two, _mm256_madd_epi16(pixels_two, high));
            low_two = _mm256_add_epi32(low_two, _mm256_madd_epi16(pixels_two, low));
        }
        __m256i high = _mm256_add_epi32(_mm256_permute2x128_si256(high_one, high_two, 0x20),
                                        _mm256_permute2x128_si256(high_one, high_two, 0x31));
        __m256i low = _mm256_add_epi32(_mm256_permute2x128_si256(low_one, low_two, 0x20),
                                       _mm256_permute2x128_si256(low_one, low_two, 0x31));
        __m256i both = rounded(high, low);
        both = _mm256_packs_epi32(both, both);
        both = _mm256_packus_epi16(both, both);
        uint32_t bytes_one = (uint32_t)_mm256_extract_epi32(both, 0), bytes_two = (uint32_t)_mm256_extract_epi32(both, 4);
        memcpy(out_one, &bytes_one, COLOURS);
        memcpy(out_two, &bytes_two, COLOURS);
    }
}

/* Makes a block of an output row: so many bytes at `to` of those at `from` and in the rows below. */
typedef void Block(const uint8_t *from, int32_t taps, size_t row_bytes, const int32_t *weight, uint8_t *to);

/* `words` weigh AT_ONCE rows. */
static inline void down_in_blocks(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis, Block *make,
                                  int32_t block, int32_t words)
{
    const int32_t *weight = axis->weights;
    for (int32_t y = 0; y < axis->outputs; y++, out += row_bytes, weight += axis->taps / AT_ONCE * words) {
        const uint8_t *from = in + (size_t)axis->first[y] * (size_t)row_bytes;
        for (int32_t done = 0; done < row_bytes; done += block) {
            int32_t at = done + block <= row_bytes ? done : row_bytes - block; /* the last block again does no harm */
            make(from + at, axis->taps, (size_t)row_bytes, weight, out + at);
        }
    }
}

/* A block of 16, of pairs of input rows. */
static void pair_block(const uint8_t *from, int32_t taps, size_t row_bytes, const int32_t *weight, uint8_t *to)
{
    __m256i high_a = _mm256_setzero_si256(), high_b = high_a, low_a = high_a, low_b = high_a;
    for (int32_t tap = 0; tap < taps; tap += PAIR, from += PAIR * row_bytes, weight += PAIR) {
        __m128i one = _mm_loadu_si128((const __m128i *)from), two = _mm_loadu_si128((const __m128i *)(from + row_bytes));
        __m256i a = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(one, two)), b = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(one, two));
        __m256i high = _mm256_set1_epi32(weight[0]), low = _mm256_set1_epi32(weight[1]);
        high_a = _mm256_add_epi32(high_a, _mm256_madd_epi16(a, high));
        high_b = _mm256_add_epi32(high_b, _mm256_madd_epi16(b, high));
        low_a = _mm256_add_epi32(low_a, _mm256_madd_epi16(a, low));
        low_b = _mm256_add_epi32(low_b, _mm256_madd_epi16(b, low));
    }
    __m256i words = _mm256_packs_epi32(rounded(high_a, low_a), rounded(high_b, low_b));
    words = _mm256_permute4x64_epi64(words, 0xD8);
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)to, bytes);
}

static void two_down(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis)
{
    down_in_blocks(in, row_bytes, out, axis, pair_block, 16, 4);
}

#ifdef VNNI
/* Eight sums of colours, each times (a * 256 + b) * 256 + c, where a, b and c are -128 to 127 and summed apart. Of 8192 taps no
 * part's sum reaches 2^28, nor the whole 2^31, so it may be put together modulo 2^32. In 256 bits, not 512: those are faster
 * here, but take the clock down for whatever the process does next. */
typedef struct {
    __v8su part[PARTS];
} Sums;

VNNI static inline void weigh(Sums *sums, __m256i colours, const int32_t *weight)
{
    for (int i = 0; i < PARTS; i++) {
        sums->part[i] = (__v8su)_mm256_dpbusd_epi32((__m256i)sums->part[i], colours, _mm256_set1_epi32(weight[i]));
    }
}

VNNI static inline __m256i whole(Sums sums)
{
    __v8su sum = (((sums.part[0] << PART_BITS) + sums.part[1]) << PART_BITS) + sums.part[2] + (1 << (WEIGHT_BITS - 1));
    return _mm256_srai_epi32((__m256i)sum, WEIGHT_BITS);
}

VNNI static inline __m256i bytes_of(const __m256i wholes[])
{
    return _mm256_packus_epi16(_mm256_packs_epi32(wholes[0], wholes[1]), _mm256_packs_epi32(wholes[2], wholes[3]));
}

/* Four taps of two rows: of each the next 12 bytes become [rrrr gggg bbbb 0000]. */
VNNI static inline __m256i four_of_two(const uint8_t *one, const uint8_t *two)
{
    const __m128i by_colour = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    __m256i both = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)one));
    both = _mm256_inserti128_si256(both, _mm_loadu_si128((const __m128i *)two), 1);
    return _mm256_shuffle_epi8(both, _mm256_broadcastsi128_si256(by_colour));
}

/* Four rows and four outputs at once; `first` and `weights` go on to the next multiple of four. */
VNNI static void four_across(const uint8_t *const from[], uint8_t *const to[], const Axis *axis)
{
    const __m128i without_gaps = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const uint8_t *one = from[0], *two = from[1], *three = from[2], *four = from[3];
    const int32_t *weight = axis->weights;
    for (int32_t x = 0; x < axis->outputs; x += 4) {
        __m256i wholes[2][4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            size_t at = (size_t)axis->first[x + i] * COLOURS;
            Sums upper = {0}, lower = {0};
            for (int32_t tap = 0; tap < axis->taps; tap += AT_ONCE, at += AT_ONCE * COLOURS, weight += PARTS) {
                weigh(&upper, four_of_two(one + at, two + at), weight);
                weigh(&lower, four_of_two(three + at, four + at), weight);
            }
            wholes[0][i] = whole(upper);
            wholes[1][i] = whole(lower);
        }
        int32_t left = axis->outputs - x;
        __mmask16 there = (__mmask16)((1 << COLOURS * (left < 4 ? left : 4)) - 1);
        size_t place = (size_t)x * COLOURS;
        for (int i = 0; i < 2; i++) {
            __m256i bytes = _mm256_shuffle_epi8(bytes_of(wholes[i]), _mm256_broadcastsi128_si256(without_gaps));
            _mm_mask_storeu_epi8(to[2 * i] + place, there, _mm256_castsi256_si128(bytes));
            _mm_mask_storeu_epi8(to[2 * i + 1] + place, there, _mm256_extracti128_si256(bytes, 1));
        }
    }
}

/* A block of 32, of fours of input rows. */
VNNI static void four_block(const uint8_t *from, int32_t taps, size_t row_bytes, const int32_t *weight, uint8_t *to)
{
    Sums one = {0}, two = one, three = one, four = one;
    for (int32_t tap = 0; tap < taps; tap += AT_ONCE, from += AT_ONCE * row_bytes, weight += PARTS) {
        __m256i row[AT_ONCE];
        for (size_t i = 0; i < AT_ONCE; i++) {
            row[i] = _mm256_loadu_si256((const __m256i *)(from + i * row_bytes));
        }
        __m256i a = _mm256_unpacklo_epi8(row[0], row[1]), b = _mm256_unpackhi_epi8(row[0], row[1]);
        __m256i c = _mm256_unpacklo_epi8(row[2], row[3]), d = _mm256_unpackhi_epi8(row[2], row[3]);
        weigh(&one, _mm256_unpacklo_epi16(a, c), weight);
        weigh(&two, _mm256_unpackhi_epi16(a, c), weight);
        weigh(&three, _mm256_unpacklo_epi16(b, d), weight);
        weigh(&four, _mm256_unpackhi_epi16(b, d), weight);
    }
    const __m256i wholes[] = {whole(one), whole(two), whole(three), whole(four)};
    _mm256_storeu_si256((__m256i *)to, bytes_of(wholes));
}

VNNI static void four_down(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis)
{
    down_in_blocks(in, row_bytes, out, axis, four_block, 32, PARTS);
}
#endif

/* `bicubic.py` knows them by their places. */
static const struct {
    int32_t rows; /* that it takes at once */
    void (*across)(const uint8_t *const from[], uint8_t *const to[], const Axis *axis);
    void (*down)(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis);
} WAYS[] = {
    {2, two_across, two_down},
#ifdef VNNI
    {4, four_across, four_down},
#endif
};

int is_supported(int32_t way)
{
    __builtin_cpu_init();
#ifdef VNNI
    if (way == 1) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512vnni");
    }
#endif
    return way == 0 && __builtin_cpu_supports("avx2");
}

/* `rows` rows of `axis->inputs` pixels become as many of `axis->outputs`. What is read behind a row weighs nothing; where nothing
 * follows it, it is read in `spare`, which holds MOST_ROWS rows and `axis->taps` + 2 pixels behind each. */
void across(const uint8_t *in, int32_t rows, uint8_t *out, const Axis *axis, uint8_t *spare)
{
    size_t row_bytes = (size_t)axis->inputs * COLOURS, out_bytes = (size_t)axis->outputs * COLOURS;
    size_t reach = (size_t)(axis->taps + 2) * COLOURS;
    for (int32_t y = 0; y < rows; y += WAYS[axis->way].rows) {
        const uint8_t *from[MOST_ROWS];
        uint8_t *to[MOST_ROWS];
        for (int32_t i = 0; i < WAYS[axis->way].rows; i++) {
            int32_t place = y + i < rows ? y + i : rows - 1; /* where too few are left, the last one is done again */
            from[i] = in + (size_t)place * row_bytes;
            to[i] = out + (size_t)place * out_bytes;
            if ((size_t)(rows - 1 - place) * row_bytes < reach) {
                from[i] = memcpy(spare + (size_t)i * (row_bytes + reach), from[i], row_bytes);
            }
        }
        WAYS[axis->way].across(from, to, axis);
    }
}

/* Rows of `row_bytes` bytes (32 at least) become `axis->outputs`; `axis->taps` of them are read from each `first` on. */
void down(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis)
{
    WAYS[axis->way].down(in, row_bytes, out, axis);
}
