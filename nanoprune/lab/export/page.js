const unpacked = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const $ = id => document.getElementById(id), out = $('networks');
const [C, H = 1, W = 1] = PAGE.input, canvas = $('canvas'), form = $('record');
let nets, last;

function show(x) {
  out.replaceChildren(...nets.map(({name, net, audit}) => {
    const times = [];
    let z;
    for (let i = 0; i < 21; i++) { const began = performance.now(); z = net.predict(x); times.push(performance.now() - began); }
    const e = Array.from(z, a => Math.exp(a - Math.max(...z))), sum = e.reduce((a, b) => a + b), k = e.indexOf(Math.max(...e));
    const told = [name, `${(net.bytes / 1000).toFixed(1)} kB`, net.kept.toLocaleString('en'), `${PAGE.labels[k]} (${(100 * e[k] / sum).toFixed(1)}%)`, `${times.sort((a, b) => a - b)[10].toFixed(2)} ms`, audit];
    const row = document.createElement('tr');
    row.append(...told.map(text => Object.assign(document.createElement('td'), {textContent: text})));
    return row;
  }));
}
// As MNIST was made: the drawing in a box of 5/7 of the side, its centre of mass in the middle.
function drawn() {
  const g = canvas.getContext('2d', {willReadFrequently: true}), n = canvas.width, a = g.getImageData(0, 0, n, n).data;
  let x0 = n, x1 = -1, y0 = n, y1 = -1;
  for (let y = 0; y < n; y++) for (let x = 0; x < n; x++) if (a[4 * (n * y + x)] > 32) { x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y); }
  if (x1 < 0) return null;
  const box = Math.round(Math.min(H, W) * 5 / 7), s = box / Math.max(x1 - x0 + 1, y1 - y0 + 1), small = new OffscreenCanvas(W, H), q = small.getContext('2d');
  const at = (dx, dy) => {
    q.fillStyle = '#000'; q.fillRect(0, 0, W, H); q.imageSmoothingQuality = 'high';
    q.drawImage(canvas, x0, y0, x1 - x0 + 1, y1 - y0 + 1, dx, dy, s * (x1 - x0 + 1), s * (y1 - y0 + 1));
    const d = q.getImageData(0, 0, W, H).data;
    return Float32Array.from({length: H * W}, (_, i) => d[4 * i] / 255);
  };
  const e = (Math.min(H, W) - box) / 2, one = at(e, e);
  let m = 0, mx = 0, my = 0;
  one.forEach((v, i) => { m += v; mx += v * (i % W); my += v * Math.floor(i / W); });
  return at(Math.round(e + (W - 1) / 2 - mx / m), Math.round(e + (H - 1) / 2 - my / m));
}
function drawing() {
  const g = canvas.getContext('2d', {willReadFrequently: true}), wipe = () => { g.fillStyle = '#000'; g.fillRect(0, 0, canvas.width, canvas.height); };
  canvas.onpointerdown = e => { last = [e.offsetX, e.offsetY]; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = e => {
    if (!last) return;
    g.strokeStyle = '#fff'; g.lineWidth = canvas.width / 13; g.lineCap = 'round';
    g.beginPath(); g.moveTo(...last); last = [e.offsetX, e.offsetY]; g.lineTo(...last); g.stroke();
  };
  canvas.onpointerup = () => { last = null; const x = drawn(); if (x) show(x); };
  $('clear').onclick = wipe;
  wipe();
}
function table() {
  form.onsubmit = e => {
    e.preventDefault();
    const x = Float32Array.from(form.elements.values.value.split(/[\s,;]+/).filter(Boolean), Number);
    $('problem').textContent = x.length == C * H * W && x.every(Number.isFinite) ? '' : `${C * H * W} numbers are expected, ${x.length} are there`;
    if (!$('problem').textContent) show(x);
  };
}
(async () => {
  nets = await Promise.all(PAGE.networks.map(async n => ({...n, net: await load(unpacked(n.data), unpacked(PAGE.kernel))})));
  C == 1 && H > 1 ? drawing() : table();
  if (location.hash.startsWith('#test')) {  // for tests: records of a fixed sequence, the logits as text
    const count = Number(location.hash.slice(5)) || 1;
    let state = 1;
    const next = () => { state = state * 48271 % 2147483647; return Math.fround(state / 2147483647); };
    const found = nets.map(() => []);
    for (let i = 0; i < count; i++) { const x = Float32Array.from({length: C * H * W}, next); nets.forEach(({net}, k) => found[k].push(Array.from(net.predict(x)))); }
    const x = Float32Array.from({length: C * H * W}, next), times = nets.map(({net}) => { const t = []; for (let i = 0; i < 200; i++) { const began = performance.now(); for (let j = 0; j < 5; j++) net.predict(x); t.push((performance.now() - began) / 5); } return t.sort((a, b) => a - b)[100]; });
    show(x);
    $('test').textContent = JSON.stringify({logits: found, ms: times});
    console.log('measured', ...times);
  }
})();
