// A network from one packed file (web.py writes it), run by plain JavaScript and a WebAssembly kernel of 328 bytes.
async function load(packed, kernel) {
  const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  const buffer = await new Response(inflated).arrayBuffer();
  const {instance} = await WebAssembly.instantiate(kernel), {rows, m} = instance.exports;
  const size = new DataView(buffer).getUint32(0, true), base = 4 + size;
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const types = {uint8: Uint8Array, int8: Int8Array, int32: Int32Array, float32: Float32Array};
  const array = ([type, start, n]) => new types[type](buffer, base + start, n);
  let top = 64, F, I, kept = 0;
  const alloc = n => {  // floats; 64 bytes behind each are read and written
    const at = top;
    top += (4 * n + 191) & ~63;
    if (top > m.buffer.byteLength) m.grow(Math.ceil((top - m.buffer.byteLength) / 65536));
    F = new Float32Array(m.buffer); I = new Int32Array(m.buffer);
    return at >> 2;
  };
  const image = ([C, H = 1, W = 1], row = W, plane = H * row) => ({at: alloc(C * plane + 16), C, H, W, row, plane});
  const steps = [], values = [image(head.input)];
  const put = (from, n = from.length) => { const at = alloc(n); F.set(from, at); return at; };
  const weights = s => {  // flat, zeros left out: places and values
    const raw = array(s.values), gaps = s.gaps && array(s.gaps), scale = s.scale && array(s.scale), at = [], v = [], n = s.shape[1];
    let place = -1;
    for (let i = 0; i < raw.length; i++) {
      place += gaps ? gaps[i] : 1;
      if (raw[i] !== 0) { at.push(place); v.push(scale ? raw[i] * scale[Math.floor(place / n)] : raw[i]); }
    }
    kept += v.length;
    return {at, v};
  };
  const pointers = (at, n, R) => {
    const ptr = new Int32Array(R + 1);
    for (const place of at) ptr[Math.floor(place / n) + 1]++;
    for (let r = 0; r < R; r++) ptr[r + 1] += ptr[r];
    return ptr;
  };
  const clip = (y, act) => { if (act) for (let i = y.at, end = y.at + y.C * y.plane; i < end; i++) { const a = F[i]; F[i] = a > 0 ? act == 2 && a > 6 ? 6 : a : 0; } };
  const each = (y, f) => { for (let c = 0; c < y.C; c++) for (let h = 0; h < y.H; h++) for (let w = 0; w < y.W; w++) F[y.at + c * y.plane + h * y.row + w] = f(c, h, w); };
  const pixel = (x, c, h, w) => F[x.at + c * x.plane + h * x.row + w];
  const compile = {
    conv(s, [x], shape) {  // the input in a frame of p zeros, dealt by the remainders modulo the stride
      const [O, n] = s.shape, {k, stride: d, padding: p, group: G} = s, need = Math.min(d, k);
      const RP = Math.ceil((x.H + 2 * p) / d), CP = Math.ceil((x.W + 2 * p) / d), deal = need * need * RP * CP;
      const direct = d == 1 && p == 0, room = direct ? x.row : CP, plane = direct ? x.plane : deal;
      const from = direct ? x.at : alloc(x.C * deal), {at, v} = weights(s), ptr = pointers(at, n, O), per = n / (k * k);
      const off = at.map(q => {
        const r = Math.floor(q / n), c = Math.floor(q % n / (k * k)), i = Math.floor(q % (k * k) / k), j = q % k;
        const first = Math.floor(r / (O / G)) * per + c;
        return 4 * (first * plane + ((i % d) * need + j % d) * RP * CP * !direct + Math.floor(i / d) * room + Math.floor(j / d));
      });
      const a = put(v), b = put(array(s.bias)), po = alloc(O + 1), oo = alloc(off.length);
      I.set(ptr.map(q => 4 * q), po); I.set(off, oo);
      const span = 4 * ((shape[1] - 1) * room + shape[2] + 15 & ~15), y = image(shape, room, span / 4);
      steps.push(() => {
        if (!direct) {
          F.fill(0, from, from + x.C * deal);
          for (let c = 0; c < x.C; c++) for (let h = 0; h < x.H; h++) {
            const e = (h + p) % d;
            if (e >= need) continue;
            const to = from + c * deal + e * need * RP * CP + Math.floor((h + p) / d) * CP, of = x.at + c * x.plane + h * x.row;
            if (d == 1) F.copyWithin(to + p, of, of + x.W);
            else for (let w = 0; w < x.W; w++) { const g = (w + p) % d; if (g < need) F[to + g * RP * CP + Math.floor((w + p) / d)] = F[of + w]; }
          }
        }
        rows(O, 4 * po, 4 * oo, 4 * a, 4 * b, 4 * from, 4 * y.at, span, span);
        clip(y, s.act);
      });
      return y;
    },
    linear(s, [x], shape) {
      const [O, n] = s.shape, {at, v} = weights(s), ptr = pointers(at, n, O), bias = array(s.bias), y = image(shape);
      const V = Float32Array.from(v), column = Int32Array.from(at, q => x.at + q % n);
      steps.push(() => {
        const f = F;
        for (let r = 0; r < O; r++) { let a = bias[r]; for (let i = ptr[r], e = ptr[r + 1]; i < e; i++) a += V[i] * f[column[i]]; f[y.at + r] = a; }
        clip(y, s.act);
      });
      return y;
    },
    maxpool(s, [x], shape) {
      const y = image(shape), {k, stride: d, padding: p} = s;
      steps.push(() => {
        const f = F;
        let n = y.at;
        for (let c = 0; c < y.C; c++) for (let i = 0; i < y.H; i++) for (let j = 0; j < y.W; j++) {
          let a = -Infinity;
          for (let h = Math.max(0, d * i - p); h < Math.min(x.H, d * i - p + k); h++) for (let w = Math.max(0, d * j - p); w < Math.min(x.W, d * j - p + k); w++) { const q = f[x.at + c * x.plane + h * x.row + w]; if (q > a) a = q; }
          f[n++] = a;
        }
        clip(y, s.act);
      });
      return y;
    },
    avgpool(s, [x], shape) {
      const y = image(shape), k = s.k;
      steps.push(() => each(y, (c, i, j) => { let a = 0; for (let h = 0; h < k; h++) for (let w = 0; w < k; w++) a += pixel(x, c, k * i + h, k * j + w); return a / (k * k); }));
      return y;
    },
    mean(s, [x], shape) {
      const y = image(shape);
      steps.push(() => each(y, c => { let a = 0; for (let h = 0; h < x.H; h++) for (let w = 0; w < x.W; w++) a += pixel(x, c, h, w); return a / (x.H * x.W); }));
      return y;
    },
    affine(s, [x], shape) {
      const y = image(shape), scale = array(s.scale), shift = array(s.shift);
      steps.push(() => each(y, (c, h, w) => scale[c] * pixel(x, c, h, w) + shift[c]));
      return y;
    },
    groupnorm(s, [x], shape) {
      const y = image(shape), gamma = array(s.gamma), beta = array(s.beta), D = x.C / s.groups, n = D * x.H * x.W;
      steps.push(() => {
        const sum = f => { const a = new Float64Array(s.groups); for (let c = 0; c < x.C; c++) for (let h = 0; h < x.H; h++) for (let w = 0; w < x.W; w++) a[Math.floor(c / D)] += f(pixel(x, c, h, w), Math.floor(c / D)); return a; };
        const mean = sum(q => q / n), deviation = sum((q, g) => (q - mean[g]) ** 2 / n).map(q => Math.sqrt(q + 1e-5));
        each(y, (c, h, w) => { const g = Math.floor(c / D); return (pixel(x, c, h, w) - mean[g]) / deviation[g] * gamma[c] + beta[c]; });
      });
      return y;
    },
    activation(s, [x], shape) {
      const y = image(shape), f = {relu: a => Math.max(a, 0), relu6: a => Math.min(Math.max(a, 0), 6), tanh: Math.tanh}[s.kind];
      steps.push(() => each(y, (c, h, w) => f(pixel(x, c, h, w))));
      return y;
    },
    flatten(s, [x], shape) {
      const y = image(shape);
      steps.push(() => each(y, c => pixel(x, Math.floor(c / (x.H * x.W)), Math.floor(c / x.W) % x.H, c % x.W)));
      return y;
    },
    gather(s, [x], shape) { const y = image(shape), index = array(s.index); steps.push(() => each(y, c => F[x.at + index[c]])); return y; },
    concat(s, parts, shape) { const y = image(shape); steps.push(() => { let n = y.at; for (const x of parts) { F.copyWithin(n, x.at, x.at + x.C); n += x.C; } }); return y; },
    add(s, [a, b], shape) { const y = image(shape); steps.push(() => { each(y, (c, h, w) => pixel(a, c, h, w) + pixel(b, c, h, w)); clip(y, s.act); }); return y; },
  };
  for (const s of head.steps) values.push(compile[s.op](s, s.inputs.map(i => values[i]), s.output));
  const out = values.at(-1), input = values[0];
  return {about: head.about, kept, bytes: packed.byteLength, predict: x => { F.set(x, input.at); for (const step of steps) step(); return F.slice(out.at, out.at + out.C); }};
}
