// The ops that are no matrix products, for an NVIDIA GPU; compiled at run time by NVRTC. Equations stand above the CPU kernels of
// the same names. Only what is also plain C++ is used, so that a test can run each kernel on a CPU, thread by thread.
//
// Every block has THREADS threads. A kernel must not have the name of a function of CUDA's own, such as `norm`. Rows are row-major f32; indices that can pass 2^31 are size_t.

#define THREADS 128
#define MINUS_INFINITY __int_as_float(0xff800000)
typedef unsigned long long u64;

__device__ int smaller(int a, int b) { return a < b ? a : b; }
__device__ int larger(int a, int b) { return a > b ? a : b; }

// The sum (or maximum) over the block's threads, always in the same order.
__device__ float block_sum(float x, float* scratch) {
    __syncthreads();
    scratch[threadIdx.x] = x;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
    }
    __syncthreads();
    return scratch[0];
}

__device__ float block_max(float x, float* scratch) {
    __syncthreads();
    scratch[threadIdx.x] = x;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) scratch[threadIdx.x] = fmaxf(scratch[threadIdx.x], scratch[threadIdx.x + half]);
    }
    __syncthreads();
    return scratch[0];
}

// ---- Rows: one block each.

extern "C" __global__ void rms_norm(const float* x, const float* w, float eps, float* y, int width) {
    extern __shared__ float shared[];
    x += (size_t)blockIdx.x * width;
    y += (size_t)blockIdx.x * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) squares += x[i] * x[i];
    float s = 1 / sqrtf(block_sum(squares, shared) / width + eps);
    for (int i = threadIdx.x; i < width; i += THREADS) y[i] = w[i] * (x[i] * s);
}

extern "C" __global__ void rms_norm_backward(const float* x, const float* w, float eps, const float* dy, float* dx, int width) {
    extern __shared__ float shared[];
    size_t row = (size_t)blockIdx.x * width;
    float squares = 0, projection = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        squares += x[row + i] * x[row + i];
        projection += x[row + i] * w[i] * dy[row + i];
    }
    float s = 1 / sqrtf(block_sum(squares, shared) / width + eps);
    float shrink = s * s * s / width * block_sum(projection, shared);
    for (int i = threadIdx.x; i < width; i += THREADS) {
        dx[row + i] += s * w[i] * dy[row + i] - x[row + i] * shrink;
    }
}

extern "C" __global__ void rope(
    float* x, int stride, int heads, int half, const float* cosines, const float* sines, const int* positions, float sign
) {
    x += (size_t)blockIdx.x * stride;
    size_t at = (size_t)positions[blockIdx.x] * half;
    for (int e = threadIdx.x; e < heads * half; e += THREADS) {
        int head = e / half, i = e % half;
        float* pair = x + (size_t)head * 2 * half + i;
        float c = cosines[at + i], s = sign * sines[at + i], a = pair[0], b = pair[half];
        pair[0] = a * c - b * s;
        pair[half] = b * c + a * s;
    }
}

extern "C" __global__ void swiglu(const float* gate_up, int ffn, float* h) {
    gate_up += (size_t)blockIdx.x * 2 * ffn;
    h += (size_t)blockIdx.x * ffn;
    for (int i = threadIdx.x; i < ffn; i += THREADS) h[i] = gate_up[i] / (1 + expf(-gate_up[i])) * gate_up[ffn + i];
}

extern "C" __global__ void swiglu_backward(float* gate_up, int ffn, const float* dh) {
    gate_up += (size_t)blockIdx.x * 2 * ffn;
    dh += (size_t)blockIdx.x * ffn;
    for (int i = threadIdx.x; i < ffn; i += THREADS) {
        float g = gate_up[i], u = gate_up[ffn + i], s = 1 / (1 + expf(-g));
        gate_up[i] = dh[i] * u * s * (1 + g * (1 - s));
        gate_up[ffn + i] = dh[i] * g * s;
    }
}

extern "C" __global__ void add_bias(float* y, const float* bias, int width) {
    y += (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += THREADS) y[i] += bias[i];
}

__device__ u64 mixed(u64 x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

extern "C" __global__ void dropout(float* x, const u64* rows, int width, u64 place, u64 kept, float scale) {
    x += (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        u64 state = (rows[blockIdx.x] ^ place) + 0x9e3779b97f4a7c15ull * (u64)(i + 1);
        x[i] *= mixed(state) >> 32 < kept ? scale : 0;
    }
}

// y[i] = matrix[rows[i]], for each number format of the matrix.
extern "C" __global__ void rows_f32(const float* matrix, const int* rows, int width, float* y) {
    const float* x = matrix + (size_t)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += THREADS) y[(size_t)blockIdx.x * width + i] = x[i];
}

__device__ float wide(unsigned short x) { return __uint_as_float((unsigned)x << 16); }

// To the nearest bf16, ties to even.
__device__ unsigned short narrow(float x) {
    unsigned bits = __float_as_uint(x);
    return (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

extern "C" __global__ void rows_bf16(const unsigned short* matrix, const int* rows, int width, float* y) {
    const unsigned short* x = matrix + (size_t)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += THREADS) y[(size_t)blockIdx.x * width + i] = wide(x[i]);
}

extern "C" __global__ void rows_q8(const signed char* values, const float* scales, const int* rows, int width, float* y) {
    size_t at = (size_t)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        y[(size_t)blockIdx.x * width + i] = values[at + i] * scales[(at + i) / 32];
    }
}

// y = x factor, with one factor for each row, `stride` apart.
extern "C" __global__ void scale_rows(float* x, int width, const float* factors, int stride) {
    float factor = factors[(size_t)blockIdx.x * stride];
    for (int i = threadIdx.x; i < width; i += THREADS) x[(size_t)blockIdx.x * width + i] *= factor;
}

// ---- Long lists: a block takes THREADS * 8 values.

extern "C" __global__ void add(const float* x, float* y, u64 n) {
    u64 from = (u64)blockIdx.x * THREADS * 8 + threadIdx.x;
    for (u64 i = from; i < from + THREADS * 8 && i < n; i += THREADS) y[i] += x[i];
}

extern "C" __global__ void to_bf16(const float* x, unsigned short* y, u64 n) {
    u64 from = (u64)blockIdx.x * THREADS * 8 + threadIdx.x;
    for (u64 i = from; i < from + THREADS * 8 && i < n; i += THREADS) y[i] = narrow(x[i]);
}

extern "C" __global__ void q8_to_bf16(const signed char* values, const float* scales, unsigned short* y, u64 n) {
    u64 from = (u64)blockIdx.x * THREADS * 8 + threadIdx.x;
    for (u64 i = from; i < from + THREADS * 8 && i < n; i += THREADS) y[i] = narrow(values[i] * scales[i / 32]);
}

// ---- The vocabulary: a row's running sums over chunks of logits; state is (rows, 5): top, sum, weighted, target, rescale.

extern "C" __global__ void vocabulary_chunk(float* z, int n, int from, const int* targets, float* state) {
    extern __shared__ float shared[];
    z += (size_t)blockIdx.x * n;
    state += (size_t)blockIdx.x * 5;
    float old_top = state[0], largest = MINUS_INFINITY;
    for (int i = threadIdx.x; i < n; i += THREADS) largest = fmaxf(largest, z[i]);
    float top = fmaxf(block_max(largest, shared), from == 0 ? MINUS_INFINITY : old_top);
    float sum = 0, weighted = 0;
    int target = targets[blockIdx.x] - from;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        float logit = z[i], e = expf(logit - top);
        if (i == target) state[3] = logit;
        z[i] = e;
        sum += e;
        weighted += e * logit;
    }
    sum = block_sum(sum, shared);
    weighted = block_sum(weighted, shared);
    if (threadIdx.x == 0) {
        float rescale = from == 0 ? 0 : expf(old_top - top);
        state[0] = top;
        state[1] = state[1] * rescale + sum;
        state[2] = state[2] * rescale + weighted;
        state[4] = rescale;
    }
}

extern "C" __global__ void slope_end(float* slope, int width, const float* state, const float* target, float temperature) {
    float sum = state[(size_t)blockIdx.x * 5 + 1];
    size_t row = (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        slope[row + i] = (target[row + i] - slope[row + i] / sum) / temperature;
    }
}

// ---- Attention.

// A sequence: where its keys lie, and its queries. Key row r of block b is at keys + base + b * block_bytes + r * stride * 4;
// its value kv_heads * dim floats further.
struct Sequence {
    u64 base, block_bytes;
    int query_row, queries, key_row, own, prefix_row, prefix;
};

__device__ float* key_of(const Sequence* s, u64 keys, int block, int stride, int position) {
    int row = position < s->prefix ? s->prefix_row + position : s->key_row + position - s->prefix;
    return (float*)(keys + s->base + block * s->block_bytes) + (size_t)row * stride;
}

// The position of a query row among its keys.
__device__ int position_of(const Sequence* s, int row) { return s->prefix + s->own - (s->query_row + s->queries - row); }

__device__ bool sees(int query, int key, int window) { return key <= query && (window == 0 || key > query - window); }

// One block for each row of the batch: its key and value go to the end of its sequence's cache.
extern "C" __global__ void cache_append(
    const float* qkv, int qkv_dim, int q_dim, u64 keys, int block, int stride, const Sequence* sequences, const int* sequence_of
) {
    const Sequence* s = sequences + sequence_of[blockIdx.x];
    float* to = key_of(s, keys, block, stride, position_of(s, blockIdx.x));
    const float* from = qkv + (size_t)blockIdx.x * qkv_dim + q_dim;
    for (int i = threadIdx.x; i < stride; i += THREADS) to[i] = from[i];
}

// Rows of `dim` floats into shared memory, `pad` apart.
__device__ void load_keys(
    float* k, float* v, const Sequence* s, u64 keys, int block, int stride, int first, int n, int kv_dim, int at, int dim, int pad
) {
    for (int e = threadIdx.x; e < n * dim; e += THREADS) {
        int j = e / dim, c = e % dim;
        const float* key = key_of(s, keys, block, stride, first + j) + at + c;
        k[j * pad + c] = key[0];
        v[j * pad + c] = key[kv_dim];
    }
}

__device__ void load_rows(float* to, const float* from, int stride, int n, int dim, int pad) {
    for (int e = threadIdx.x; e < n * dim; e += THREADS) to[e / dim * pad + e % dim] = from[(size_t)(e / dim) * stride + e % dim];
}

__device__ float dot(const float* a, const float* b, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// The softmax of some rows so far: row i of the tile by thread i.
__device__ void online_softmax(float* p, int n, float* top, float* sum, float* factor) {
    float largest = *top;
    for (int j = 0; j < n; j++) largest = fmaxf(largest, p[j]);
    float old = *top, total = 0;
    for (int j = 0; j < n; j++) {
        p[j] = p[j] == MINUS_INFINITY ? 0 : expf(p[j] - largest);
        total += p[j];
    }
    *factor = old == MINUS_INFINITY ? 0 : expf(old - largest);
    *sum = *sum * *factor + total;
    *top = largest;
}

// A thread holds at most this many values of a tile's output.
#define HELD 16

// blockIdx.x: a tile, (sequence, first query row); blockIdx.y: a query head. `rows` queries at a time, `step` keys at a time;
// rows * dim <= THREADS * HELD.
extern "C" __global__ void attention(
    const float* q, int q_stride, u64 keys, int stride, int block, const Sequence* sequences, const int* tiles, int heads,
    int kv_heads, int dim, int window, float scale, float* o, float* l, int rows, int step
) {
    extern __shared__ float shared[];
    const Sequence* s = sequences + tiles[2 * blockIdx.x];
    int first = tiles[2 * blockIdx.x + 1], head = blockIdx.y, at = head / (heads / kv_heads) * dim, pad = dim + 1;
    int n = smaller(rows, s->query_row + s->queries - first);
    float *qs = shared, *ks = qs + rows * pad, *vs = ks + step * pad, *p = vs + step * pad;
    float *top = p + rows * step, *sum = top + rows, *factor = sum + rows;
    float held[HELD];
    for (int k = 0; k < HELD; k++) held[k] = 0;
    load_rows(qs, q + (size_t)first * q_stride + head * dim, q_stride, n, dim, pad);
    if (threadIdx.x < n) top[threadIdx.x] = MINUS_INFINITY;
    if (threadIdx.x < n) sum[threadIdx.x] = 0;
    int position = position_of(s, first), end = position + n;
    for (int from = window ? larger(0, position - window + 1) : 0; from < end; from += step) {
        int m = smaller(step, end - from);
        __syncthreads();
        load_keys(ks, vs, s, keys, block, stride, from, m, kv_heads * dim, at, dim, pad);
        __syncthreads();
        for (int e = threadIdx.x; e < n * m; e += THREADS) {
            int i = e / m, j = e % m;
            bool seen = sees(position + i, from + j, window);
            p[i * step + j] = seen ? scale * dot(qs + i * pad, ks + j * pad, dim) : MINUS_INFINITY;
        }
        __syncthreads();
        if (threadIdx.x < n) online_softmax(p + threadIdx.x * step, m, top + threadIdx.x, sum + threadIdx.x, factor + threadIdx.x);
        __syncthreads();
        for (int k = 0; k < HELD; k++) {
            int e = threadIdx.x + k * THREADS, i = e / dim, c = e % dim;
            if (e >= n * dim) break;
            float x = held[k] * factor[i];
            for (int j = 0; j < m; j++) x += p[i * step + j] * vs[j * pad + c];
            held[k] = x;
        }
    }
    for (int k = 0; k < HELD; k++) {
        int e = threadIdx.x + k * THREADS, i = e / dim, c = e % dim;
        if (e >= n * dim) break;
        o[(size_t)(first + i) * heads * dim + head * dim + c] = held[k] / sum[i];
    }
    if (threadIdx.x < n) l[(size_t)(first + threadIdx.x) * heads + head] = top[threadIdx.x] + logf(sum[threadIdx.x]);
}

// D = do . o of each row and head; one block for each row.
extern "C" __global__ void attention_means(const float* o, const float* d_o, int heads, int dim, float* means) {
    size_t row = (size_t)blockIdx.x * heads;
    for (int head = threadIdx.x; head < heads; head += THREADS) {
        means[row + head] = dot(o + (row + head) * dim, d_o + (row + head) * dim, dim);
    }
}

// dq of a tile of queries, as in `attention`.
extern "C" __global__ void attention_dq(
    const float* qkv, int stride, const Sequence* sequences, const int* tiles, int heads, int kv_heads, int dim, int window,
    float scale, const float* l, const float* means, const float* d_o, float* dqkv, int rows, int step
) {
    extern __shared__ float shared[];
    const Sequence* s = sequences + tiles[2 * blockIdx.x];
    int first = tiles[2 * blockIdx.x + 1], head = blockIdx.y, at = head / (heads / kv_heads) * dim, pad = dim + 1;
    int n = smaller(rows, s->query_row + s->queries - first);
    float *qs = shared, *dos = qs + rows * pad, *ks = dos + rows * pad, *vs = ks + step * pad, *ds = vs + step * pad;
    float held[HELD];
    for (int k = 0; k < HELD; k++) held[k] = 0;
    load_rows(qs, qkv + (size_t)first * stride + head * dim, stride, n, dim, pad);
    load_rows(dos, d_o + ((size_t)first * heads + head) * dim, heads * dim, n, dim, pad);
    int position = position_of(s, first), end = position + n;
    for (int from = window ? larger(0, position - window + 1) : 0; from < end; from += step) {
        int m = smaller(step, end - from);
        __syncthreads();
        load_keys(ks, vs, s, (u64)(qkv + heads * dim), 0, stride, from, m, kv_heads * dim, at, dim, pad);
        __syncthreads();
        for (int e = threadIdx.x; e < n * m; e += THREADS) {
            int i = e / m, j = e % m;
            size_t row = (size_t)(first + i) * heads + head;
            float p = sees(position + i, from + j, window) ? expf(scale * dot(qs + i * pad, ks + j * pad, dim) - l[row]) : 0;
            ds[i * step + j] = p * (dot(dos + i * pad, vs + j * pad, dim) - means[row]);
        }
        __syncthreads();
        for (int k = 0; k < HELD; k++) {
            int e = threadIdx.x + k * THREADS, i = e / dim, c = e % dim;
            if (e >= n * dim) break;
            for (int j = 0; j < m; j++) held[k] += ds[i * step + j] * ks[j * pad + c];
        }
    }
    for (int k = 0; k < HELD; k++) {
        int e = threadIdx.x + k * THREADS, i = e / dim, c = e % dim;
        if (e >= n * dim) break;
        dqkv[(size_t)(first + i) * stride + head * dim + c] = scale * held[k];
    }
}

// dk and dv of a tile of keys. blockIdx.x: a tile, (sequence, first own key, first user, end of users); blockIdx.y: a key/value
// head. Its users are the sequence itself and those that continue it; they are added up in one order, so that the same batch gives
// the same bits. `step` keys, `rows` queries at a time; step * dim <= THREADS * HELD.
extern "C" __global__ void attention_dkdv(
    const float* qkv, int stride, const Sequence* sequences, const int* tiles, const int* users, int heads, int kv_heads, int dim,
    int window, float scale, const float* l, const float* means, const float* d_o, float* dqkv, int rows, int step
) {
    extern __shared__ float shared[];
    const int* tile = tiles + 4 * blockIdx.x;
    const Sequence* s = sequences + tile[0];
    int kv = blockIdx.y, group = heads / kv_heads, pad = dim + 1, m = smaller(step, s->own - tile[1]), kv_dim = kv_heads * dim;
    float *ks = shared, *vs = ks + step * pad, *qs = vs + step * pad, *dos = qs + rows * pad, *p = dos + rows * pad;
    float* ds = p + rows * step;
    float held_k[HELD], held_v[HELD];
    for (int k = 0; k < HELD; k++) held_k[k] = held_v[k] = 0;
    int key = s->prefix + tile[1];
    load_keys(ks, vs, s, (u64)(qkv + heads * dim), 0, stride, key, m, kv_dim, kv * dim, dim, pad);
    for (int user = tile[2]; user < tile[3]; user++) {
        const Sequence* u = sequences + users[user];
        int last = u->query_row + u->queries;
        // The first query that sees the first key, and behind a window the last that sees the last one.
        int begin = larger(u->query_row, u->query_row + key - position_of(u, u->query_row));
        if (window) last = smaller(last, u->query_row + key + m - 1 + window - position_of(u, u->query_row));
        for (int first = begin; first < last; first += rows) {
            int n = smaller(rows, last - first), position = position_of(u, first);
            for (int head = kv * group; head < (kv + 1) * group; head++) {
                __syncthreads();
                load_rows(qs, qkv + (size_t)first * stride + head * dim, stride, n, dim, pad);
                load_rows(dos, d_o + ((size_t)first * heads + head) * dim, heads * dim, n, dim, pad);
                __syncthreads();
                for (int e = threadIdx.x; e < n * m; e += THREADS) {
                    int i = e / m, j = e % m;
                    size_t row = (size_t)(first + i) * heads + head;
                    bool seen = sees(position + i, key + j, window);
                    float x = seen ? expf(scale * dot(qs + i * pad, ks + j * pad, dim) - l[row]) : 0;
                    p[i * step + j] = x;
                    ds[i * step + j] = x * (dot(dos + i * pad, vs + j * pad, dim) - means[row]);
                }
                __syncthreads();
                for (int k = 0; k < HELD; k++) {
                    int e = threadIdx.x + k * THREADS, j = e / dim, c = e % dim;
                    if (e >= m * dim) break;
                    for (int i = 0; i < n; i++) {
                        held_k[k] += ds[i * step + j] * qs[i * pad + c];
                        held_v[k] += p[i * step + j] * dos[i * pad + c];
                    }
                }
            }
        }
    }
    for (int k = 0; k < HELD; k++) {
        int e = threadIdx.x + k * THREADS, j = e / dim, c = e % dim;
        if (e >= m * dim) break;
        float* to = dqkv + (size_t)(s->key_row + tile[1] + j) * stride + heads * dim + kv * dim + c;
        to[0] = scale * held_k[k];
        to[kv_dim] = held_v[k];
    }
}
