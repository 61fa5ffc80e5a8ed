/// head
#ifndef NANOPRUNE_LANES /* floats in a vector; 1 is plain C */
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
#define L NANOPRUNE_LANES
#if L > 1
typedef float vec __attribute__((vector_size(4 * L)));
typedef int32_t ivec __attribute__((vector_size(4 * L)));
typedef float mem __attribute__((vector_size(4 * L), aligned(4), may_alias));
#define SPLAT(a) ((vec){0} + (a))
static inline vec activate(vec a, int act) { /* act: 0 none, 1 max(a, 0), 2 min(max(a, 0), 6) */
    if (act) a = (vec)((ivec)a & (a > 0));
    if (act == 2) { ivec below = a < 6; a = (vec)(((ivec)a & below) | ((ivec)SPLAT(6.f) & ~below)); }
    return a;
}
#else
typedef float vec;
typedef float mem;
#define SPLAT(a) (a)
static inline vec activate(vec a, int act) { return !act ? a : a > 0 ? (act == 2 && a > 6 ? 6 : a) : 0; }
#endif
#define LOAD(p) (*(const mem *)(p))
#define STORE(p, a) (*(mem *)(p) = (a))
/// scalar
static inline float activated(float a, int act) { return !act ? a : a > 0 ? (act == 2 && a > 6 ? 6 : a) : 0; }
/// sparse
/* Sparse rows: y[r][t] = act(scale[r] sum_k v[k] x[off[k] + t] + bias[r]) with k from ptr[r] to ptr[r + 1], t < span.
   Reads and writes up to 8 vectors at a time; `span` is rounded up to whole vectors. */
#define SPARSE_BLOCK(NAME, OFF, VAL, M) \
static inline void NAME##M(int R, const uint32_t *ptr, const OFF *off, const VAL *v, const float *scale, \
                           const float *bias, const float *x, float *y, int stride, int act) { \
    for (int r = 0; r < R; r++, y += stride) { \
        vec a[M]; \
        for (int i = 0; i < M; i++) a[i] = SPLAT(0.f); \
        for (uint32_t k = ptr[r]; k < ptr[r + 1]; k++) { \
            const float *p = x + off[k]; \
            vec w = SPLAT((float)v[k]); \
            for (int i = 0; i < M; i++) a[i] += w * LOAD(p + L * i); \
        } \
        for (int i = 0; i < M; i++) STORE(y + L * i, activate(a[i] * SPLAT(scale[r]) + SPLAT(bias[r]), act)); \
    } \
}
#define SPARSE(NAME, OFF, VAL) \
SPARSE_BLOCK(NAME, OFF, VAL, 8) SPARSE_BLOCK(NAME, OFF, VAL, 4) SPARSE_BLOCK(NAME, OFF, VAL, 2) SPARSE_BLOCK(NAME, OFF, VAL, 1) \
static void NAME(int R, const uint32_t *ptr, const OFF *off, const VAL *v, const float *scale, const float *bias, \
                 const float *x, float *y, int span, int stride, int act) { \
    int t = 0, left = (span + L - 1) / L; \
    for (; left >= 8; left -= 8, t += 8 * L) NAME##8(R, ptr, off, v, scale, bias, x + t, y + t, stride, act); \
    if (left >= 4) { NAME##4(R, ptr, off, v, scale, bias, x + t, y + t, stride, act); left -= 4; t += 4 * L; } \
    if (left >= 2) { NAME##2(R, ptr, off, v, scale, bias, x + t, y + t, stride, act); left -= 2; t += 2 * L; } \
    if (left >= 1) NAME##1(R, ptr, off, v, scale, bias, x + t, y + t, stride, act); \
}
/// dense
/* Dense rows, four at a time: y[r][t] = act(scale[r] sum_k v[r / 4][k][r % 4] x[off[k] + t] + bias[r]), t < span. */
#define DENSE_BLOCK(NAME, VAL, M) \
static inline void NAME##M(int n, const int32_t *off, const VAL *v, const float *scale, const float *bias, \
                           const float *x, float *y, int stride, int act) { \
    vec a[4][M]; \
    for (int q = 0; q < 4; q++) for (int i = 0; i < M; i++) a[q][i] = SPLAT(0.f); \
    for (int k = 0; k < n; k++, v += 4) { \
        const float *p = x + off[k]; \
        for (int i = 0; i < M; i++) { \
            vec b = LOAD(p + L * i); \
            for (int q = 0; q < 4; q++) a[q][i] += SPLAT((float)v[q]) * b; \
        } \
    } \
    for (int q = 0; q < 4; q++) for (int i = 0; i < M; i++) \
        STORE(y + q * stride + L * i, activate(a[q][i] * SPLAT(scale[q]) + SPLAT(bias[q]), act)); \
}
#define DENSE(NAME, VAL) \
DENSE_BLOCK(NAME, VAL, 4) DENSE_BLOCK(NAME, VAL, 2) DENSE_BLOCK(NAME, VAL, 1) \
static void NAME(int quads, int n, const int32_t *off, const VAL *v, const float *scale, const float *bias, \
                 const float *x, float *y, int span, int stride, int act) { \
    for (int t = 0, left = (span + L - 1) / L, m; left > 0; left -= m, t += m * L) { \
        m = L == 16 && left >= 4 ? 4 : left >= 2 ? 2 : 1; \
        for (int q = 0; q < quads; q++) { \
            const VAL *w = v + (size_t)4 * n * q; \
            float *z = y + (size_t)4 * stride * q + t; \
            if (m == 4) NAME##4(n, off, w, scale + 4 * q, bias + 4 * q, x + t, z, stride, act); \
            else if (m == 2) NAME##2(n, off, w, scale + 4 * q, bias + 4 * q, x + t, z, stride, act); \
            else NAME##1(n, off, w, scale + 4 * q, bias + 4 * q, x + t, z, stride, act); \
        } \
    } \
}
/// columns
/* Sparse linear map of one vector, by columns: inputs that are zero, such as those behind a rectifier, cost nothing. */
#define COLUMNS(NAME, VAL) \
static void NAME(int I, int O, const uint32_t *ptr, const uint16_t *row, const VAL *v, const float *scale, \
                 const float *bias, const float *x, float *y, int act) { \
    memset(y, 0, (size_t)O * sizeof *y); \
    for (int c = 0; c < I; c++) { \
        float a = x[c]; \
        if (a != 0) for (uint32_t k = ptr[c]; k < ptr[c + 1]; k++) y[row[k]] += (float)v[k] * a; \
    } \
    for (int r = 0; r < O; r++) y[r] = activated(y[r] * scale[r] + bias[r], act); \
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
    for (int r = 0; r < stride; r++) y[r] = activated(y[r] * scale[r] + bias[r], act); \
}
/// frame
/* Image (C, H, W), with `row` floats from one row to the next and `plane` from one channel to the next, in a frame of p
   zeros, its rows and columns dealt by their remainder modulo s to planes of (RP, CP): with stride s, what a weight
   reads is then a row of neighbours. Planes with a remainder of `need` or more in a row or column are left out. */
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
/// maxpool
static void maxpool(const float *x, int C, int H, int W, int row, int plane, int k, int s, int p, int OH, int OW, float *y, int act) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < OH; i++, y += OW) {
        int top = s * i - p > 0 ? s * i - p : 0, end = s * i - p + k < H ? s * i - p + k : H;
        if (!p) { /* windows lie inside: the loops over outputs are innermost */
            const float *q = x + top * row;
            for (int j = 0; j < OW; j++) y[j] = q[s * j];
            for (int a = 0; a < k; a++) for (int b = !a; b < k; b++) {
                const float *z = q + a * row + b;
                for (int j = 0; j < OW; j++) y[j] = y[j] > z[s * j] ? y[j] : z[s * j];
            }
        } else for (int j = 0; j < OW; j++) {
            int left = s * j - p > 0 ? s * j - p : 0, right = s * j - p + k < W ? s * j - p + k : W;
            float m = x[top * row + left];
            for (int a = top; a < end; a++) for (int b = left; b < right; b++) m = m > x[a * row + b] ? m : x[a * row + b];
            y[j] = m;
        }
        if (act) for (int j = 0; j < OW; j++) y[j] = activated(y[j], act);
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
/* Without what stands between the rows and planes. */
static void copy(const float *x, int C, int H, int W, int row, int plane, float *y) {
    for (int c = 0; c < C; c++, x += plane) for (int i = 0; i < H; i++, y += W) memcpy(y, x + i * row, (size_t)W * sizeof *y);
}
/// add
static void add(const float *restrict a, int row_a, int plane_a, const float *restrict b, int row_b, int plane_b, int C, int H, int W,
                float *restrict y, int act) {
    for (int c = 0; c < C; c++, a += plane_a, b += plane_b) for (int i = 0; i < H; i++, y += W) {
        const float *p = a + i * row_a, *q = b + i * row_b;
        for (int j = 0; j < W; j++) y[j] = activated(p[j] + q[j], act);
    }
}
/// affine
static void affine(const float *x, int C, int n, int plane, const float *scale, const float *shift, float *y) {
    for (int c = 0; c < C; c++, x += plane, y += plane) for (int i = 0; i < n; i++) y[i] = scale[c] * x[i] + shift[c];
}
/// act
static void act(const float *x, int n, float *y, int kind) {
    for (int i = 0; i < n; i++) y[i] = kind == 3 ? tanhf(x[i]) : activated(x[i], kind);
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
