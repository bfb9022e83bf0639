// Sliders, pads and label buttons over decoders that run in the page.
//
//   mount(element, spec, bytes)             // a page by itself
//   export default { render }               // the front end of an anywidget in JupyterLab
//
// `spec` is what vae_helpers/page/specs.py writes. Texts are set as text, never as HTML.
import { Decoder, crc32, readArrays, unpacked } from "./decoder.js";

const VERSION = 1;

/** An element: h("button", { className: "x", onclick }, "text", child). */
function h(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  for (const [name, value] of Object.entries(props)) if (name.includes("-") || name === "role") element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const signed = (v, digits = 2) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);

function normal() {  // Box-Muller
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/** Draw pixels (C*H*W, 0 to 1) on a canvas: grey ones as ink on white, others as colours. */
function paint(canvas, x, [channels, height, width]) {
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), size = height * width;
  for (let i = 0, at = 0; i < size; i++, at += 4) {
    for (let c = 0; c < 3; c++) {
      const v = channels === 3 ? x[c * size + i] : 1 - x[i];
      image.data[at + c] = 255 * v + 0.5;  // a clamped array cuts at 0 and 255
    }
    image.data[at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

class Explorer {
  constructor(root, spec, bytes, host) {
    if (spec.version !== VERSION) throw new Error(`it was made by another version (${spec.version}) of the package`);
    if (crc32(bytes) !== spec.crc) throw new Error("its data are damaged");
    this.spec = spec;
    this.host = host;
    this.arrays = readArrays(spec.arrays, bytes);
    this.decoders = spec.models.map(model => model.decoder && new Decoder(model.decoder, this.arrays));
    const remote = spec.models.find(model => !model.decoder);
    if (remote && !host.decode) throw new Error(`${remote.why}: it needs a running kernel`);
    this.root = root;
    this.state = { example: 0, label: this.labelOf(0), component: 0, z: [] };
    this.message = h("p", { className: "vae-message", role: "status", "aria-live": "polite" });
    if (remote) this.say(`${remote.why}, so the kernel draws the pictures.`);
    const controls = h("div", { className: "vae-controls" }), pictures = h("div", { className: "vae-pictures" });
    this.build(controls, pictures);
    controls.append(this.buttons(), this.message);
    root.replaceChildren(
      h("div", { className: "vae-explorer", role: "group", "aria-label": spec.title }, controls, pictures));
    this.startFrom(0, false);
  }

  say(text) { this.message.textContent = text; }

  array(name) { return this.arrays[name]; }

  labelOf(example) { return this.spec.labels ? this.array(this.spec.labels)[example] : null; }

  codeOf(i, example) {
    const { codes, decoder, z_dim } = this.spec.models[i], n = decoder ? decoder.z_dim : z_dim;
    return this.array(codes).slice(example * n, (example + 1) * n);
  }

  // -- what is on the page ------------------------------------------------------------------------------------------

  build(controls, pictures) {
    const { spec } = this;
    if (spec.n_examples > 1) controls.append(this.exampleRow());
    if (spec.components) controls.append(...this.componentRows());
    if (spec.labels) controls.append(this.labelButtons());
    this.sliders = spec.sliders.map(({ name, detail }, j) => this.slider(name, detail, j));
    controls.append(...this.sliders.map(slider => slider.row));
    this.views = spec.models.map((model, i) => this.view(model, i, pictures));
  }

  range(name, detail, { min, max, step, oninput }) {
    const input = h("input", { type: "range", min, max, step, oninput, "aria-label": detail ? `${name}, ${detail}` : name });
    input.addEventListener("keydown", event => {  // by ourselves: a notebook takes the arrow keys from a slider
      const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity,
        End: Infinity }[event.key];
      if (!steps || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      input.value = Math.max(min, Math.min(max, +input.value + steps * step));
      oninput();
    });
    const output = h("output", { className: "vae-value" });
    const text = h("span", { className: "vae-name" }, name, h("small", {}, detail ? ` ${detail}` : ""));
    return { row: h("label", { className: "vae-row" }, text, input, output), input, output };
  }

  slider(name, detail, j) {
    const { limit } = this.spec;
    const slider = this.range(name, detail, { min: -limit, max: limit, step: 0.05, oninput: () => this.move(j, +slider.input.value) });
    return slider;
  }

  exampleRow() {
    this.exampleSlider = this.range("start from", "", {
      min: 0, max: this.spec.n_examples - 1, step: 1, oninput: () => this.startFrom(+this.exampleSlider.input.value) });
    return this.exampleSlider.row;
  }

  labelButtons() {
    this.labels = this.spec.classes.map((name, k) => h("button",
      { type: "button", className: "vae-label", onclick: () => this.choose(k), "aria-label": `label ${name}` }, name));
    return h("div", { className: "vae-buttons", role: "group", "aria-label": "label" }, ...this.labels);
  }

  componentRows() {
    const { share } = this.spec.components;
    this.componentSlider = this.range("component", "", {
      min: 0, max: share.length - 1, step: 1, oninput: () => this.component(+this.componentSlider.input.value) });
    this.about = h("small", { className: "vae-about" });
    const draw = h("button", { type: "button", onclick: () => this.component(this.state.component, true) }, "Draw from it");
    return [this.componentSlider.row, h("div", { className: "vae-buttons" }, draw, this.about)];
  }

  canvas(name, scale) {
    const [, height, width] = this.spec.shape;
    const canvas = h("canvas", { width, height, role: "img", "aria-label": name });
    canvas.style.width = `${width * scale}px`;
    return canvas;
  }

  figure(name, scale) {
    const canvas = this.canvas(name, scale);
    return { canvas, element: h("figure", {}, canvas, h("figcaption", {}, name)) };
  }

  view(model, i, pictures) {
    const { spec } = this, names = spec.examples ? ["original", "reconstruction", "edited"] : ["edited"];
    const figures = names.map(name => this.figure(name, spec.scale)), view = { figures };
    const box = h("div", { className: "vae-view" });
    if (spec.models.length > 1) box.append(h("h4", {}, model.name));
    box.append(h("div", { className: "vae-strip" }, ...figures.map(figure => figure.element)));
    if (spec.labels) {
      view.strip = spec.classes.map(name => this.figure(name, Math.max(1, spec.scale / 3)));
      box.append(h("div", { className: "vae-strip vae-small" }, ...view.strip.map(figure => figure.element)),
        h("small", {}, "the edited code under every label"));
    }
    pictures.append(box);
    view.edited = figures.at(-1).canvas;
    return view;
  }

  buttons() {
    const all = [["Random", () => this.random()], ["Reset", () => this.startFrom(this.state.example)],
      ["Copy values", () => this.copy()], ["Save picture", () => this.save()]];
    const made = all.map(([text, onclick]) => h("button", { type: "button", onclick }, text));
    return h("div", { className: "vae-buttons" }, ...made);
  }

  // -- what a person does -------------------------------------------------------------------------------------------

  startFrom(example, publish = true) {
    Object.assign(this.state, { example, label: this.labelOf(example), component: 0 });
    this.state.z = this.spec.models.map((_, i) => this.codeOf(i, example));
    this.show(publish);
    if (this.spec.examples) this.views.forEach(({ figures: [original, reconstruction] }, i) => {
      const size = this.spec.shape.reduce((a, b) => a * b);
      const pixels = this.array(this.spec.examples).subarray(example * size, (example + 1) * size);
      paint(original.canvas, Float32Array.from(pixels, v => v / 255), this.spec.shape);
      this.decodeTo(reconstruction.canvas, i, this.codeOf(i, example), this.state.label);
    });
  }

  /** Slider j to a value: standard deviations from the mean of the codes, or from the example's code. */
  move(j, value) {
    this.spec.models.forEach((model, i) => {
      const latent = model.order[j];
      if (latent === undefined) return;
      const from = this.spec.relative ? this.codeOf(i, this.state.example)[latent] : model.mean[latent];
      this.state.z[i][latent] = from + value * model.sd[latent];
    });
    this.sliders[j].output.textContent = signed(value);
    this.draw();
    this.publish();
  }

  choose(label) {
    this.state.label = label;
    this.show();
  }

  component(rank, draw = false) {
    const { mean, sd, number } = this.spec.components, k = number[rank], n = this.state.z[0].length;
    const mu = this.array(mean).subarray(k * n, (k + 1) * n), sigma = this.array(sd).subarray(k * n, (k + 1) * n);
    this.state.component = rank;
    this.state.z = [Float32Array.from(mu, (m, j) => (draw ? m + sigma[j] * normal() : m))];
    this.show();
  }

  random() {
    this.spec.models.forEach((model, i) => {
      if (this.spec.relative) model.order.slice(0, this.sliders.length).forEach((latent, j) => {
        if (i === 0) this.drawn = { ...this.drawn, [j]: normal() };
        this.state.z[i][latent] = this.codeOf(i, this.state.example)[latent] + this.drawn[j] * model.sd[latent];
      });
      else this.state.z[i] = Float32Array.from(model.mean, (m, j) => m + model.sd[j] * normal());
    });
    this.show();
  }

  async copy() {
    const numbers = this.spec.models.map((model, i) => `[${Array.from(this.state.z[i], v => v.toFixed(4)).join(", ")}]`);
    const label = this.state.label === null ? "" : `; y = ${this.state.label}`;
    const text = (numbers.length > 1 ? `z = [${numbers.join(", ")}]` : `z = ${numbers[0]}`) + label;
    try {
      await navigator.clipboard.writeText(text);
      this.say("Copied.");
    } catch {
      const area = h("textarea", { value: text });  // where a page may not use the clipboard's new interface
      this.root.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      this.say(copied ? "Copied." : text);
    }
  }

  save() {
    const { canvas: from } = { canvas: this.views[0].edited }, times = Math.max(1, Math.round(512 / from.width));
    const canvas = h("canvas", { width: from.width * times, height: from.height * times });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(from, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => {
      const address = URL.createObjectURL(blob);
      h("a", { href: address, download: "picture.png" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    });
  }

  // -- showing the state --------------------------------------------------------------------------------------------

  /** Controls and pictures as the state says. */
  show(publish = true) {
    const { state, spec } = this, [z] = state.z, [model] = spec.models;
    this.sliders.forEach((slider, j) => {
      const latent = model.order[j];
      const from = spec.relative ? this.codeOf(0, state.example)[latent] : model.mean[latent];
      const value = (z[latent] - from) / model.sd[latent];
      slider.input.value = value;
      slider.output.textContent = signed(value);
    });
    if (this.exampleSlider) {
      this.exampleSlider.input.value = state.example;
      this.exampleSlider.output.textContent = state.example;
    }
    this.labels?.forEach((button, k) => button.setAttribute("aria-pressed", String(k === state.label)));
    if (this.componentSlider) {
      const { share, number } = spec.components;
      this.componentSlider.input.value = state.component;
      this.componentSlider.output.textContent = number[state.component];
      this.about.textContent = `${(100 * share[state.component]).toFixed(1)} % of the examples`;
    }
    this.draw();
    if (publish) this.publish();
  }

  draw() {
    const { state } = this;
    this.views.forEach((view, i) => this.decodeTo(view.edited, i, state.z[i], state.label));
    if (this.spec.labels) {  // the rest may come a frame later
      cancelAnimationFrame(this.later);
      this.later = requestAnimationFrame(() => this.views.forEach((view, i) => view.strip.forEach((figure, k) => {
        figure.element.classList.toggle("vae-chosen", k === state.label);
        this.decodeTo(figure.canvas, i, state.z[i], k);
      })));
    }
  }

  decodeTo(canvas, i, z, label) {
    const decoder = this.decoders[i];
    if (decoder) paint(canvas, decoder.decode(z, decoder.n_classes ? label : null), this.spec.shape);
    else {
      const turn = (canvas.turn = (canvas.turn ?? 0) + 1);  // an answer that another has overtaken is dropped
      this.host.decode(i, z, label).then(
        x => canvas.turn === turn && paint(canvas, x, this.spec.shape), error => this.say(String(error.message ?? error)));
    }
  }

  publish() { this.host.publish?.(this.state); }

  /** A state from outside. */
  apply({ example, label, component, z }) {
    const changed = example !== this.state.example;
    if (changed && example >= 0 && example < Math.max(1, this.spec.n_examples)) this.startFrom(example, false);
    let at = 0;
    this.state.z = this.state.z.map(old => Float32Array.from(z.slice(at, (at += old.length))));
    if (this.spec.labels) this.state.label = label;
    if (this.spec.components) this.state.component = component;
    this.show(false);
  }
}

/** The plane of a model with two latents: point, drag, or use the arrow keys. */
class Pad extends Explorer {
  build(controls, pictures) {
    const { spec } = this;
    this.sliders = [];
    this.dot = h("div", { className: "vae-dot" });
    this.plane = h("canvas", { className: "vae-plane" });
    this.pad = h("div", { className: "vae-pad", tabIndex: 0, role: "application",
      "aria-label": "plane of the two latents: drag, or use the arrow keys" }, this.plane, this.dot);
    this.pad.addEventListener("pointerdown", event => {
      this.pad.setPointerCapture(event.pointerId);
      this.pad.focus({ preventScroll: true });
      this.follow(event);
    });
    this.pad.addEventListener("pointermove", event => event.buttons && this.follow(event));
    this.pad.addEventListener("keydown", event => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const step = spec.limit / (event.shiftKey ? 6 : 30), [x, y] = this.state.z[0];
      this.point(x + by[0] * step, y + by[1] * step);
    });
    this.readout = h("output", { className: "vae-readout", "aria-live": "polite" });
    const legend = spec.classes.map((name, k) => {
      const mark = h("span", { className: "vae-mark" });
      mark.style.background = spec.palette[k % spec.palette.length];
      return h("span", {}, mark, name);
    });
    const axis = h("small", { className: "vae-axis" }, `z₁ to the right, z₂ upwards, −${spec.limit.toFixed(1)} to ${spec.limit.toFixed(1)}`);
    controls.append(this.pad, axis, h("div", { className: "vae-legend" }, ...legend));
    const figure = this.figure("decoded", spec.scale);
    pictures.append(h("div", { className: "vae-view" }, figure.element, this.readout));
    this.views = [{ edited: figure.canvas, figures: [figure] }];
    this.scatter();
  }

  scatter() {
    const { spec, plane } = this, size = 640, { codes, y } = spec.pad, context = plane.getContext("2d");
    plane.width = plane.height = size;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, size, size);
    context.strokeStyle = "#ccc";
    context.beginPath();
    context.moveTo(size / 2, 0); context.lineTo(size / 2, size);
    context.moveTo(0, size / 2); context.lineTo(size, size / 2);
    context.stroke();
    const points = this.array(codes), classes = y ? this.array(y) : null;
    context.globalAlpha = 0.7;
    for (let n = 0; n < points.length / 2; n++) {
      context.fillStyle = classes ? spec.palette[classes[n] % spec.palette.length] : "#555";
      context.beginPath();
      context.arc((points[2 * n] / spec.limit + 1) / 2 * size, (1 - points[2 * n + 1] / spec.limit) / 2 * size, 5, 0, 7);
      context.fill();
    }
  }

  follow(event) {
    const box = this.pad.getBoundingClientRect(), { limit } = this.spec;
    this.point(((event.clientX - box.left) / box.width * 2 - 1) * limit, (1 - (event.clientY - box.top) / box.height * 2) * limit);
  }

  point(x, y) {
    const { limit } = this.spec, clamp = v => Math.max(-limit, Math.min(limit, v));
    this.state.z[0][0] = clamp(x);
    this.state.z[0][1] = clamp(y);
    this.show();
  }

  startFrom(_, publish = true) {
    this.state.z = [new Float32Array(2)];
    this.show(publish);
  }

  show(publish = true) {
    const [[x, y]] = this.state.z, { limit } = this.spec;
    this.dot.style.left = `${(x / limit + 1) / 2 * 100}%`;
    this.dot.style.top = `${(1 - y / limit) / 2 * 100}%`;
    this.readout.textContent = `z = (${signed(x)}, ${signed(y)})`;
    this.draw();
    if (publish) this.publish();
  }
}

const SCALED_MAX = 0.9, FRAME = 64, TABLE = 4096, REACH = 12.9, TURN = 39;  // of the data set dSprites

/** A slider per known factor; the true picture beside what each model makes of the same code. */
class Factors extends Explorer {
  build(controls, pictures) {
    const { spec } = this, { encoders, top } = spec.factors;
    this.encoders = encoders.map(encoder => encoder && new Decoder(encoder, this.arrays));
    this.sliders = spec.sliders.map(({ name, detail }, j) => this.slider(name, detail, j));
    controls.append(...this.sliders.map(slider => slider.row));
    const above = h("div", { className: "vae-strip" }), below = h("div", { className: "vae-strip" });
    if (top) {
      this.truth = this.figure("true picture", spec.scale);
      above.append(this.truth.element);
    }
    this.views = spec.models.map(({ name }, i) => {
      const figure = this.figure(name, spec.scale), again = top && this.encoders[i] && this.figure(name, spec.scale);
      above.append(figure.element);
      if (again) below.append(again.element);
      return { edited: figure.canvas, again: again?.canvas, figures: [figure] };
    });
    pictures.append(h("div", { className: "vae-view" }, above, ...(below.children.length
      ? [h("small", {}, "below: each model's reconstruction of the true picture"), below] : [])));
  }

  startFrom(_, publish = true) {
    this.values = [...this.spec.factors.start];
    this.show(publish);
  }

  random() {
    const { sizes, varying } = this.spec.factors;
    this.values = varying.map(f => SCALED_MAX * (2 * Math.floor(Math.random() * sizes[f]) / (sizes[f] - 1) - 1));
    this.show();
  }

  move(j, value) {
    this.values[j] = value;
    this.show();
  }

  /** The code of the values: a factor as one latent, a circular one as two. */
  code() {
    const angle = value => Math.PI * (value / SCALED_MAX + 1), { circular } = this.spec.factors;
    return Float32Array.from(this.values.flatMap((value, j) => circular[j]
      ? [SCALED_MAX * Math.cos(angle(value)), SCALED_MAX * Math.sin(angle(value))] : [value]));
  }

  /** The values of a code, as they come from outside. */
  apply({ z }) {
    let at = 0;
    this.values = this.spec.factors.circular.map(circular => {
      if (!circular) return z[at++];
      const turn = Math.atan2(z[at + 1], z[at]) / Math.PI;
      at += 2;
      return SCALED_MAX * ((turn + 2) % 2 - 1);
    });
    this.show(false);
  }

  /** Of every factor, the value on the grid that is nearest. */
  nearest() {
    const { sizes, varying } = this.spec.factors, classes = sizes.map(() => 0);
    varying.forEach((f, j) => {
      const last = sizes[f] - 1, found = Math.round((this.values[j] / SCALED_MAX + 1) / 2 * last);
      classes[f] = Math.max(0, Math.min(last, found));
    });
    return classes;
  }

  show(publish = true) {
    this.sliders.forEach(({ input, output }, j) => {
      input.value = this.values[j];
      output.textContent = signed(this.values[j]);
    });
    const code = this.code();
    this.state.z = this.spec.models.map(() => code);
    this.draw();
    if (this.truth) {
      const classes = this.nearest(), pixels = sprite(classes, this.array(this.spec.factors.top), this.array(this.spec.factors.bottom));
      paint(this.truth.canvas, pixels, this.spec.shape);
      cancelAnimationFrame(this.later);
      if (String(classes) !== this.shown) this.later = requestAnimationFrame(() => {  // these may come a frame later
        this.shown = String(classes);
        this.views.forEach(({ again }, i) => again && this.decodeTo(again, i, this.encoders[i].decode(pixels), null));
      });
    }
    if (publish) this.publish();
  }
}

/** A frame of dSprites from its classes (colour, shape, scale, orientation, x, y): a pixel is lit if its centre lies in the shape. */
export function sprite([, shape, scale, orientation, x, y], top, bottom) {
  const size = 0.5 + 0.1 * scale, angle = -2 * Math.PI / TURN * (orientation % TURN);
  const cosine = Math.cos(angle) / size, sine = Math.sin(angle) / size, pixels = new Float32Array(FRAME * FRAME);
  for (let row = 0, at = 0; row < FRAME; row++)
    for (let column = 0; column < FRAME; column++, at++) {
      const dx = column + 0.5 - 16 - 32 / 31 * x, dy = row + 0.5 - 16 - 32 / 31 * y;
      const entry = Math.min(TABLE - 1, Math.floor(Math.abs(cosine * dx + sine * dy) * TABLE / REACH)) + TABLE * shape;
      const v = cosine * dy - sine * dx;
      pixels[at] = v > top[entry] && v < bottom[entry] ? 1 : 0;
    }
  return pixels;
}

function refuse(root, { message }) {
  root.replaceChildren(h("p", { className: "vae-error", role: "alert" }, `This explorer cannot be shown: ${message}.`));
  return null;
}

/** Show an explorer in an element, or say why it cannot be shown. */
export function mount(root, spec, bytes, host = {}) {
  try {
    return new ({ pad: Pad, factors: Factors }[spec.kind] ?? Explorer)(root, spec, bytes, host);
  } catch (error) {
    return refuse(root, error);
  }
}

/** The same from the texts of a page: fields as JSON, data as zlib in base64. */
export async function mountTexts(root, fields, data) {
  try {
    return mount(root, JSON.parse(fields), await unpacked(data));
  } catch (error) {
    return refuse(root, error);
  }
}

/** The front end of `vae_helpers.explorer.Explorer`: decodes here, tells Python the values, follows them. */
function render({ model, el }) {
  const view = model.get("data"), waiting = new Map();
  let own = false, timer = null, count = 0;
  const host = {
    publish(state) {  // at most ten times a second
      timer ??= setTimeout(() => {
        timer = null;
        own = true;
        const { example, label, component } = state;
        model.set({ example, component, label: label ?? -1, z: state.z.flatMap(z => Array.from(z)) });
        own = false;
        model.save_changes();
      }, 100);
    },
    decode(i, z, label) {
      const id = ++count;
      model.send({ kind: "decode", id, model: i, z: Array.from(z), label });
      return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    },
  };
  const answer = ({ id, error }, buffers) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) reject?.(new Error(error));
    else if (buffers?.length) resolve?.(new Float32Array(buffers[0].buffer.slice(buffers[0].byteOffset, buffers[0].byteOffset + buffers[0].byteLength)));
  };
  const explorer = mount(el, model.get("spec"), new Uint8Array(view.buffer, view.byteOffset, view.byteLength), host);
  if (!explorer) return undefined;
  const current = () => ({ z: model.get("z"), example: model.get("example"), label: model.get("label"), component: model.get("component") });
  let due = false;
  const follow = () => {
    if (own || due) return;
    due = true;  // several traits change together
    queueMicrotask(() => {
      due = false;
      explorer.apply(current());
    });
  };
  const names = ["z", "example", "label", "component"].map(name => `change:${name}`);
  names.forEach(name => model.on(name, follow));
  model.on("msg:custom", answer);
  if (model.get("z").length) explorer.apply(current());
  return () => {
    clearTimeout(timer);
    names.forEach(name => model.off(name, follow));
    model.off("msg:custom", answer);
  };
}

export default { render };
