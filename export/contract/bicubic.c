/* Resizes 8-bit RGB as PIL does with BICUBIC, to the last bit, several pixels at a time (x86-64 with AVX2).
 *
 * PIL multiplies one colour after another by weights of 22 bits. Here a weight is two numbers of 11 bits, so that one instruction
 * multiplies 16 colours and adds them in pairs; no bit is lost. `bicubic.py` makes the weights, brings every buffer and vouches
 * for every length. Knows no picture format and allocates nothing.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { COLOURS = 3, PAIR = 2, AT_ONCE = 4, BLOCK = 16, LOW_BITS = 11, WEIGHT_BITS = 22 };

/* One axis. Output i weighs `taps` inputs from first[i] on; where it needs fewer, the last weights are 0. `taps` is a multiple of
 * AT_ONCE. A word of `weights` is two 16-bit numbers, for two taps; the high parts come before the low ones. */
typedef struct {
    int32_t inputs;
    int32_t outputs;
    int32_t taps;
    const int32_t *first;
    const int32_t *weights;
} Axis;

int is_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}

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
static void rows_across(const uint8_t *one, const uint8_t *two, uint8_t *out_one, uint8_t *out_two, const Axis *axis)
{
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

/* A block of one output row, of pairs of input rows. `rows` are there; a pair that begins behind them weighs nothing. */
static __m128i block_down(const uint8_t *from, int32_t rows, size_t row_bytes, const int32_t *weight)
{
    __m256i high_a = _mm256_setzero_si256(), high_b = high_a, low_a = high_a, low_b = high_a;
    for (int32_t tap = 0; tap < rows; tap += PAIR, weight += PAIR) {
        const uint8_t *upper = from + (size_t)tap * row_bytes;
        const uint8_t *lower = tap + 1 < rows ? upper + row_bytes : upper;
        __m128i one = _mm_loadu_si128((const __m128i *)upper), two = _mm_loadu_si128((const __m128i *)lower);
        __m256i a = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(one, two)), b = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(one, two));
        __m256i high = _mm256_set1_epi32(weight[0]), low = _mm256_set1_epi32(weight[1]);
        high_a = _mm256_add_epi32(high_a, _mm256_madd_epi16(a, high));
        high_b = _mm256_add_epi32(high_b, _mm256_madd_epi16(b, high));
        low_a = _mm256_add_epi32(low_a, _mm256_madd_epi16(a, low));
        low_b = _mm256_add_epi32(low_b, _mm256_madd_epi16(b, low));
    }
    __m256i words = _mm256_packs_epi32(rounded(high_a, low_a), rounded(high_b, low_b));
    words = _mm256_permute4x64_epi64(words, 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

/* `rows` rows of `axis->inputs` pixels become as many of `axis->outputs`. What is read behind a row weighs nothing; where nothing
 * follows it, it is read in `spare`, which holds two rows and `axis->taps` + 2 pixels behind each. */
void across(const uint8_t *in, int32_t rows, uint8_t *out, const Axis *axis, uint8_t *spare)
{
    size_t row_bytes = (size_t)axis->inputs * COLOURS, out_bytes = (size_t)axis->outputs * COLOURS;
    size_t reach = (size_t)(axis->taps + 2) * COLOURS;
    for (int32_t y = 0; y < rows; y += 2) {
        int32_t places[2] = {y, y + 1 < rows ? y + 1 : y}; /* an odd last row is done twice */
        const uint8_t *from[2];
        for (int i = 0; i < 2; i++) {
            from[i] = in + (size_t)places[i] * row_bytes;
            if ((size_t)(rows - 1 - places[i]) * row_bytes < reach) {
                from[i] = memcpy(spare + i * (row_bytes + reach), from[i], row_bytes);
            }
        }
        rows_across(from[0], from[1], out + (size_t)places[0] * out_bytes, out + (size_t)places[1] * out_bytes, axis);
    }
}

/* `axis->inputs` rows of `row_bytes` bytes (BLOCK at least) become `axis->outputs`. */
void down(const uint8_t *in, int32_t row_bytes, uint8_t *out, const Axis *axis)
{
    for (int32_t y = 0; y < axis->outputs; y++, out += row_bytes) {
        const int32_t *weight = axis->weights + (size_t)y * axis->taps;
        int32_t first = axis->first[y], left = axis->inputs - first;
        const uint8_t *from = in + (size_t)first * row_bytes;
        for (int32_t done = 0; done < row_bytes; done += BLOCK) {
            int32_t at = done + BLOCK <= row_bytes ? done : row_bytes - BLOCK; /* the last block again does no harm */
            __m128i block = block_down(from + at, left < axis->taps ? left : axis->taps, row_bytes, weight);
            _mm_storeu_si128((__m128i *)(out + at), block);
        }
    }
}
