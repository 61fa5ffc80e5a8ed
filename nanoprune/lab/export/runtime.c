/// head
#ifndef NANOPRUNE_LANES /* floats in the widest vector: 16, 8 or 4; 1 is plain C */
#if !defined(__GNUC__)
#define NANOPRUNE_LANES 1
#elif defined(__AVX512F__)
#define NANOPRUNE_LANES 16
#elif defined(__AVX__)
#define NANOPRUNE_LANES 8
#else
#define NANOPRUNE_LANES 4
#endif
#endif
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
typedef float vec1, mem1;
INLINE float act1(float a, int act) { return !act ? a : a > 0 ? (act == 2 && a > 6 ? 6 : a) : 0; }
#define VECTORS(N) /* act: 0 none, 1 max(a, 0), 2 min(max(a, 0), 6) */ \
typedef float vec##N __attribute__((vector_size(4 * N))); \
typedef int32_t ivec##N __attribute__((vector_size(4 * N))); \
typedef float mem##N __attribute__((vector_size(4 * N), aligned(4), may_alias)); \
INLINE vec##N act##N(vec##N a, int act) { \
    if (act) a = (vec##N)((ivec##N)a & (a > 0)); \
    if (act == 2) { ivec##N below = a < 6; a = (vec##N)(((ivec##N)a & below) | ((ivec##N)((vec##N){0} + 6) & ~below)); } \
    return a; \
}
#if NANOPRUNE_LANES >= 4
VECTORS(4)
#define LANES4 4
#else
#define LANES4 1
#endif
#if NANOPRUNE_LANES >= 8
VECTORS(8)
#define LANES8 8
#else
#define LANES8 LANES4
#endif
#if NANOPRUNE_LANES >= 16
VECTORS(16)
#define LANES16 16
#else
#define LANES16 LANES8
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
/// sparse
/* Sparse convolution: y[to[r]][h][w] = act(scale[r] sum_k v[k] x[off[k] + h row + w] + bias[r]), k from ptr[r] to
   ptr[r + 1]; ROWS rows of VB vectors of LANES floats at a time. Rows r are sorted by length, so that the end of the
   inner loop is predictable. The last blocks overlap the ones before. INT: weights are int8 with a scale. */
#define SPARSE(NAME, OFF, VAL, INT, LANES, ROWS, VB) \
static void NAME(int R, const uint32_t *ptr, const OFF *off, const VAL *v, const uint16_t *to, const float *scale, \
                 const float *bias, const float *x, int row, float *y, int OH, int width, int plane, int act) { \
    for (int h0 = 0; h0 < OH; h0 += ROWS) for (int w0 = 0; w0 < width; w0 += VB * LANES) { \
        int h = h0 < OH - ROWS ? h0 : OH - ROWS, w = w0 < width - VB * LANES ? w0 : width - VB * LANES; \
        const float *from = x + h * row + w; \
        float *out = y + h * width + w; \
        for (int r = 0; r < R; r++) { \
            JOIN(vec, LANES) a[ROWS][VB], s = (JOIN(vec, LANES)){0} + scale[r], b = (JOIN(vec, LANES)){0} + bias[r]; \
            for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) a[i][j] = INT ? (JOIN(vec, LANES)){0} : b; \
            for (uint32_t k = ptr[r]; k < ptr[r + 1]; k++) { \
                const float *p = from + off[k]; \
                JOIN(vec, LANES) u = (JOIN(vec, LANES)){0} + (float)v[k]; \
                for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) \
                    a[i][j] += u * *(const JOIN(mem, LANES) *)(p + i * row + j * LANES); \
            } \
            float *z = out + (size_t)to[r] * (size_t)plane; \
            for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) \
                *(JOIN(mem, LANES) *)(z + i * width + j * LANES) = JOIN(act, LANES)(INT ? a[i][j] * s + b : a[i][j], act); \
        } \
    } \
}
/// dense
/* Dense convolution, four channels at a time: y[4q + c][h][w] = act(scale sum_k v[q][k][c] x[off[k] + h row + w] + bias).
   Otherwise as above. */
#define DENSE(NAME, VAL, INT, LANES, ROWS, VB) \
static void NAME(int Q, int n, const int32_t *off, const VAL *v, const float *scale, const float *bias, \
                 const float *x, int row, float *y, int OH, int width, int plane, int act) { \
    for (int h0 = 0; h0 < OH; h0 += ROWS) for (int w0 = 0; w0 < width; w0 += VB * LANES) { \
        int h = h0 < OH - ROWS ? h0 : OH - ROWS, w = w0 < width - VB * LANES ? w0 : width - VB * LANES; \
        const float *from = x + h * row + w; \
        const VAL *u = v; \
        for (int q = 0; q < Q; q++) { \
            JOIN(vec, LANES) a[4][ROWS][VB]; \
            for (int c = 0; c < 4; c++) for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) \
                a[c][i][j] = (JOIN(vec, LANES)){0} + (INT ? 0 : bias[4 * q + c]); \
            for (int k = 0; k < n; k++, u += 4) { \
                const float *p = from + off[k]; \
                for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) { \
                    JOIN(vec, LANES) b = *(const JOIN(mem, LANES) *)(p + i * row + j * LANES); \
                    for (int c = 0; c < 4; c++) a[c][i][j] += ((JOIN(vec, LANES)){0} + (float)u[c]) * b; \
                } \
            } \
            for (int c = 0; c < 4; c++) for (int i = 0; i < ROWS; i++) for (int j = 0; j < VB; j++) { \
                JOIN(vec, LANES) b = a[c][i][j]; \
                if (INT) b = b * ((JOIN(vec, LANES)){0} + scale[4 * q + c]) + ((JOIN(vec, LANES)){0} + bias[4 * q + c]); \
                float *z = y + (size_t)(4 * q + c) * (size_t)plane + (h + i) * width + w + j * LANES; \
                *(JOIN(mem, LANES) *)z = JOIN(act, LANES)(b, act); \
            } \
        } \
    } \
}
/// columns
/* Sparse linear map of one vector by columns, for records: their zero entries are left out first, without a branch.
   Columns are sorted by length. work: 2 I floats. */
#define COLUMNS(NAME, VAL, INT) \
static void NAME(int I, int O, const uint16_t *input, const uint32_t *ptr, const uint16_t *row, const VAL *v, \
                 const float *scale, const float *bias, const float *x, float *y, float *work, int act) { \
    int n = 0; \
    for (int32_t c = 0; c < I; c++) { \
        float a = x[input[c]]; \
        work[2 * n] = a; \
        memcpy(work + 2 * n + 1, &c, sizeof c); \
        n += a != 0; \
    } \
    if (INT) memset(y, 0, (size_t)O * sizeof *y); else memcpy(y, bias, (size_t)O * sizeof *y); \
    for (int i = 0; i < n; i++) { \
        float a = work[2 * i]; \
        int32_t c; \
        memcpy(&c, work + 2 * i + 1, sizeof c); \
        for (uint32_t k = ptr[c]; k < ptr[c + 1]; k++) y[row[k]] += (float)v[k] * a; \
    } \
    for (int r = 0; r < O; r++) y[r] = act1(INT ? y[r] * scale[r] + bias[r] : y[r], act); \
}
/// groups
/* Sparse linear map of one vector, eight outputs at a time, which are sorted by length and padded with zeros to the
   longest of the eight, so that all branches are predictable. The padding of the last eight outputs is written after
   the others. */
#if NANOPRUNE_LANES >= 8 && (__GNUC__ >= 9 || defined(__clang__)) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* Loads are what limits: the columns of eight weights in two, their values in one. */
#define GROUP(VAL) { \
    typedef VAL mem __attribute__((vector_size(8 * sizeof(VAL)), aligned(sizeof(VAL)), may_alias)); \
    vec8 sum = {0}; \
    for (; k > 0; k--, v += 8, column += 8) { \
        uint64_t p, q; \
        memcpy(&p, column, sizeof p); \
        memcpy(&q, column + 4, sizeof q); \
        vec8 in = {x[p & 65535], x[p >> 16 & 65535], x[p >> 32 & 65535], x[p >> 48], \
                   x[q & 65535], x[q >> 16 & 65535], x[q >> 32 & 65535], x[q >> 48]}; \
        sum += __builtin_convertvector(*(const mem *)v, vec8) * in; \
    } \
    memcpy(a, &sum, sizeof a); \
}
#else
#define GROUP(VAL) \
    for (; k > 0; k--, v += 8, column += 8) \
        for (int r = 0; r < 8; r++) a[r] += (float)v[r] * x[column[r]];
#endif
#define GROUPS(NAME, VAL, INT) \
static void NAME(int O, const uint16_t *length, const uint16_t *column, const VAL *v, const uint16_t *to, \
                 const float *scale, const float *bias, const float *restrict x, float *restrict y, int act) { \
    for (int g = 0; g < O; g += 8) { \
        float a[8] = {0}; \
        int k = length[g / 8]; \
        GROUP(VAL) \
        for (int r = 0; r < 8; r++) a[r] = act1((INT ? a[r] * scale[g + r] : a[r]) + bias[g + r], act); \
        for (int r = 0; r < 8; r++) y[to[g + r]] = a[r]; \
    } \
}
/// full
/* Dense linear map of one vector: v (I, stride) is the transposed matrix; rows of inputs that are zero are skipped. */
#define FULL(NAME, VAL) \
static void NAME(int I, int stride, const VAL *v, const float *scale, const float *bias, const float *restrict x, \
                 float *restrict y, int act) { \
    memset(y, 0, (size_t)stride * sizeof *y); \
    for (int i = 0; i < I; i++, v += stride) { \
        float a = x[i]; \
        if (a != 0) for (int r = 0; r < stride; r++) y[r] += a * (float)v[r]; \
    } \
    for (int r = 0; r < stride; r++) y[r] = act1(y[r] * scale[r] + bias[r], act); \
}
/// frame
/* Image (C, H, W), with `row` floats from one row to the next and `plane` from one channel to the next, padded with p
   zeros, its rows and columns distributed by their remainder modulo s to planes of (RP, CP): with stride s, a weight
   then reads contiguous values. Planes with a remainder of `need` or more in a row or column are left out. */
static void frame(const float *x, int C, int H, int W, int row, int plane, int p, int s, int need, int RP, int CP, float *y) {
    memset(y, 0, (size_t)C * (size_t)(need * need * RP * CP) * sizeof *y);
    for (int c = 0; c < C; c++, x += plane, y += need * need * RP * CP)
        for (int h = 0; h < H; h++) {
            int a = (h + p) % s;
            if (a >= need) continue;
            const float *from = x + h * row;
            float *to = y + a * need * RP * CP + (h + p) / s * CP;
            if (s == 1) memcpy(to + p, from, (size_t)W * sizeof *to);
            else for (int w = 0; w < W; w++) {
                int b = (w + p) % s;
                if (b < need) to[b * RP * CP + (w + p) / s] = from[w];
            }
        }
}
/// maxpool2
/* 2 x 2 windows, stride 2, inside of the image; the sizes are compile-time constants. */
INLINE void maxpool2(const float *x, int C, int row, int plane, int OH, int OW, float *restrict y, int act) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < OH; i++, y += OW) {
        const float *p = x + 2 * i * row, *q = p + row;
        for (int j = 0; j < OW; j++) {
            float a = p[2 * j] > q[2 * j] ? p[2 * j] : q[2 * j], b = p[2 * j + 1] > q[2 * j + 1] ? p[2 * j + 1] : q[2 * j + 1];
            y[j] = act1(a > b ? a : b, act);
        }
    }
}
/// maxpool
static void maxpool(const float *x, int C, int H, int W, int row, int plane, int k, int s, int p, int OH, int OW, float *y, int act) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < OH; i++, y += OW) {
        int top = s * i - p > 0 ? s * i - p : 0, end = s * i - p + k < H ? s * i - p + k : H;
        for (int j = 0; j < OW; j++) {
            int left = s * j - p > 0 ? s * j - p : 0, right = s * j - p + k < W ? s * j - p + k : W;
            float m = x[top * row + left];
            for (int a = top; a < end; a++) for (int b = left; b < right; b++) m = m > x[a * row + b] ? m : x[a * row + b];
            y[j] = act1(m, act);
        }
    }
}
/// avgpool
static void avgpool(const float *x, int C, int row, int plane, int k, int OH, int OW, float *y) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < OH; i++) for (int j = 0; j < OW; j++) {
        float sum = 0;
        for (int a = 0; a < k; a++) for (int b = 0; b < k; b++) sum += x[(k * i + a) * row + k * j + b];
        *y++ = sum / (float)(k * k);
    }
}
/// mean
static void mean(const float *x, int C, int H, int W, int row, int plane, float *y) {
    for (int c = 0; c < C; c++, x += plane) {
        float sum = 0;
        for (int i = 0; i < H; i++) for (int j = 0; j < W; j++) sum += x[i * row + j];
        y[c] = sum / (float)(H * W);
    }
}
/// copy
/* Removes the gaps between rows and planes. */
static void copy(const float *x, int C, int H, int W, int row, int plane, float *y) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < H; i++, y += W) memcpy(y, x + i * row, (size_t)W * sizeof *y);
}
/// add
static void add(const float *restrict a, int row_a, int plane_a, const float *restrict b, int row_b, int plane_b, int C, int H, int W,
                float *restrict y, int act) {
    for (int c = 0; c < C; c++, a += plane_a, b += plane_b) for (int i = 0; i < H; i++, y += W) {
        const float *p = a + i * row_a, *q = b + i * row_b;
        for (int j = 0; j < W; j++) y[j] = act1(p[j] + q[j], act);
    }
}
/// affine
static void affine(const float *x, int C, int n, int plane, const float *scale, const float *shift, float *y) {
    for (int c = 0; c < C; c++, x += plane, y += plane) for (int i = 0; i < n; i++) y[i] = scale[c] * x[i] + shift[c];
}
/// act
static void act(const float *x, int n, float *y, int kind) {
    for (int i = 0; i < n; i++) y[i] = kind == 3 ? tanhf(x[i]) : act1(x[i], kind);
}
/// groupnorm
static void groupnorm(const float *x, int G, int C, int H, int W, int row, int plane, const float *gamma, const float *beta, float eps,
                      float *y) {
    int D = C / G;
    for (int g = 0; g < G; g++, x += D * plane, y += D * H * W) {
        float m = 0, v = 0;
        for (int c = 0; c < D; c++) for (int i = 0; i < H; i++) for (int j = 0; j < W; j++) m += x[c * plane + i * row + j];
        m /= (float)(D * H * W);
        for (int c = 0; c < D; c++) for (int i = 0; i < H; i++) for (int j = 0; j < W; j++) {
            float d = x[c * plane + i * row + j] - m;
            v += d * d;
        }
        v = 1 / sqrtf(v / (float)(D * H * W) + eps);
        for (int c = 0; c < D; c++) for (int i = 0; i < H; i++) for (int j = 0; j < W; j++)
            y[(c * H + i) * W + j] = (x[c * plane + i * row + j] - m) * v * gamma[g * D + c] + beta[g * D + c];
    }
}
/// gather
static void gather(const float *x, int n, const int32_t *index, float *y) { for (int i = 0; i < n; i++) y[i] = x[index[i]]; }
