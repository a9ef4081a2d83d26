// Learning curves that can be explored: each element of class "curves" holds its data as JSON.
const SVG = "http://www.w3.org/2000/svg";
const element = (name, attributes = {}, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const counted = (value) => value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 100 ? 1 : 0 });
const short = (value) => Intl.NumberFormat("en", { notation: "compact" }).format(value);
const ticks = (low, high, most) => {
  const raw = (high - low) / most || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
};

class Curves {
  constructor(figure) {
    this.figure = figure;
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.plot = figure.querySelector(".plot");
    this.readout = figure.querySelector("output");
    this.buttons = [...figure.querySelectorAll("button[data-arm]")];
    this.toggles = [...figure.querySelectorAll("button[data-family]")];
    this.measure = 0;
    this.isolated = null; // an arm's number
    this.current = null; // {arm, point}: what is pointed at
    this.hint = this.readout.textContent;
    for (const radio of figure.querySelectorAll("input[type=radio]")) {
      radio.addEventListener("change", () => { this.measure = Number(radio.value); this.current = null; this.draw(); });
    }
    for (const toggle of this.toggles) {
      toggle.addEventListener("click", () => {
        this.press(toggle, toggle.ariaPressed !== "true");
        if (this.isolated !== null && !this.shown(this.isolated)) this.isolated = null;
        this.draw();
      });
    }
    for (const button of this.buttons) {
      const arm = Number(button.dataset.arm);
      const name = () => { this.current = { arm, point: this.curve(arm).step.length - 1 }; this.draw(); };
      const leave = () => { this.current = null; this.draw(); };
      button.addEventListener("pointerenter", name);
      button.addEventListener("focus", name);
      button.addEventListener("pointerleave", leave);
      button.addEventListener("blur", leave);
      button.addEventListener("click", () => this.isolate(arm));
    }
    this.plot.addEventListener("pointermove", (event) => { this.current = this.nearest(event); this.draw(); });
    this.plot.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") { this.current = null; this.draw(); }
    });
    this.plot.addEventListener("click", (event) => {
      const found = this.nearest(event);
      const named = this.tapped === undefined || this.tapped === found?.arm;
      this.current = found;
      if (found && named) this.isolate(found.arm);
      else this.draw();
    });
    // A finger does not hover: its first tap on a curve names it, the next isolates it.
    this.plot.addEventListener("pointerdown", (event) => {
      this.tapped = event.pointerType === "mouse" ? undefined : this.current?.arm ?? null;
      if (event.pointerType !== "mouse") { this.current = this.nearest(event); this.draw(); }
    });
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => { this.current = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  curve(arm) { return this.data.arms[arm].curves[this.measure]; }

  shown(arm) {
    const { family, baseline } = this.data.arms[arm];
    if (!this.curve(arm).step.length) return false;
    return baseline || this.toggles.find((toggle) => toggle.dataset.family === family).ariaPressed === "true";
  }

  visible() { return this.data.arms.map((_, arm) => arm).filter((arm) => this.shown(arm)); }

  press(toggle, pressed) { toggle.ariaPressed = String(pressed); }

  isolate(arm) {
    if (!this.shown(arm)) {
      this.press(this.toggles.find((toggle) => toggle.dataset.family === this.data.arms[arm].family), true);
    }
    this.isolated = this.isolated === arm ? null : arm;
    this.draw();
  }

  key(event) {
    const arms = this.isolated === null ? this.visible() : [this.isolated];
    const { arm, point } = this.current ?? { arm: arms[0], point: -1 };
    const next = (by) => {
      const other = arms[(arms.indexOf(arm) + by + arms.length) % arms.length];
      return { arm: other, point: Math.min(Math.max(point, 0), this.curve(other).step.length - 1) };
    };
    const move = (to) => ({ arm, point: Math.min(Math.max(to, 0), this.curve(arm).step.length - 1) });
    const actions = {
      ArrowRight: () => { this.current = move(point + 1); },
      ArrowLeft: () => { this.current = move(point - 1); },
      Home: () => { this.current = move(0); },
      End: () => { this.current = move(Infinity); },
      ArrowDown: () => { this.current = this.current ? next(1) : move(0); },
      ArrowUp: () => { this.current = this.current ? next(-1) : move(0); },
      Enter: () => this.isolate(arm),
      " ": () => this.isolate(arm),
      Escape: () => { this.isolated = null; this.current = null; },
    };
    if (!arms.length || !actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
    this.draw();
  }

  // The point that is nearest to the pointer: of all curves at its step, the nearest by height.
  nearest(event) {
    const box = this.plot.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    let best = null;
    for (const arm of this.isolated === null ? this.visible() : [this.isolated]) {
      const { step, value } = this.curve(arm);
      let point = 0;
      for (let i = 1; i < step.length; i += 1) {
        if (Math.abs(this.x(step[i]) - x) < Math.abs(this.x(step[point]) - x)) point = i;
      }
      const distance = Math.abs(this.y(value[point]) - y);
      if (!best || distance < best.distance) best = { arm, point, distance };
    }
    return best;
  }

  draw() {
    const width = this.plot.clientWidth;
    const height = Math.round(Math.min(Math.max(width * 0.62, 230), 400));
    const left = 50, right = 12, top = 8, bottom = 40;
    const arms = this.visible();
    const values = arms.flatMap((arm) => {
      const { value, low, high } = this.curve(arm);
      return low && this.data.arms[arm].baseline ? [...value, ...low, ...high] : value;
    });
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!values.length) [low, high] = [0, 1];
    const room = (high - low || 1) * 0.04;
    [low, high] = [low - room, high + room];
    this.x = (step) => left + (step / this.data.steps) * (width - left - right);
    this.y = (value) => top + Math.min(Math.max((high - value) / (high - low), 0), 1) * (height - top - bottom);
    const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const tick of ticks(low, high, 5)) {
      svg.append(element("line", { x1: left, x2: width - right, y1: this.y(tick), y2: this.y(tick), class: "grid" }));
      svg.append(element("text", { x: left - 6, y: this.y(tick) + 4, "text-anchor": "end" }, short(tick)));
    }
    for (const tick of ticks(0, this.data.steps, width < 500 ? 3 : 5)) {
      const anchor = this.x(tick) > width - 30 ? "end" : "middle";
      svg.append(element("text", { x: anchor === "end" ? width : this.x(tick), y: height - bottom + 18, "text-anchor": anchor }, short(tick)));
    }
    svg.append(element("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis" }));
    svg.append(element("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "Environment steps"));
    const strong = this.isolated ?? this.current?.arm ?? null;
    const order = [...arms].sort((a, b) => (a === strong) - (b === strong));
    for (const arm of order) svg.append(this.line(arm, strong));
    if (this.current && arms.includes(this.current.arm)) {
      const { step, value } = this.curve(this.current.arm);
      const [x, y] = [this.x(step[this.current.point]), this.y(value[this.current.point])];
      svg.append(element("line", { x1: x, x2: x, y1: top, y2: height - bottom, class: "axis" }));
      svg.append(element("circle", { cx: x, cy: y, r: 4.5, fill: this.data.arms[this.current.arm].color, class: "dot" }));
    }
    this.plot.replaceChildren(svg);
    this.say();
    for (const button of this.buttons) {
      const arm = Number(button.dataset.arm);
      button.ariaPressed = String(arm === this.isolated);
      button.classList.toggle("off", !this.shown(arm));
    }
  }

  line(arm, strong) {
    const { color, baseline, dashed, stopped } = this.data.arms[arm];
    const { step, value, low, high } = this.curve(arm);
    const group = element("g", { opacity: strong === null || arm === strong ? 1 : baseline ? 0.5 : 0.18 });
    const path = (numbers) => numbers.map((number, i) => `${this.x(step[i]).toFixed(1)} ${this.y(number).toFixed(1)}`);
    if (low && (arm === strong || (baseline && strong === null))) {
      const edge = `M${[...path(low), ...path(high).reverse()].join("L")}Z`;
      group.append(element("path", { d: edge, fill: color, opacity: 0.16 }));
    }
    const look = { fill: "none", stroke: color, "stroke-width": arm === strong ? 3 : 1.8, "stroke-dasharray": dashed ? "6 3" : "none" };
    group.append(element("path", { d: `M${path(value).join("L")}`, ...look, "stroke-linejoin": "round" }));
    for (const at of stopped) {
      const point = Math.max(step.findIndex((edge) => edge >= at), 0);
      group.append(element("text", { x: this.x(at), y: this.y(value[point]) + 5, "text-anchor": "middle", class: "cross", fill: color }, "×"));
    }
    return group;
  }

  say() {
    const arm = this.current?.arm ?? this.isolated;
    if (arm === null || !this.shown(arm)) { this.readout.textContent = this.hint; return; }
    const { label, seeds } = this.data.arms[arm];
    const { step, value, low, high } = this.curve(arm);
    const point = this.current?.point ?? step.length - 1;
    const interval = low && low[point] !== high[point] ? ` [${counted(low[point])}, ${counted(high[point])}]` : "";
    const name = document.createElement("b");
    name.textContent = label;
    this.readout.replaceChildren(name, `: ${counted(value[point])}${interval} at ${counted(step[point])} steps, ${seeds} ${seeds === 1 ? "seed" : "seeds"}`);
  }
}
for (const figure of document.querySelectorAll("figure.curves")) new Curves(figure);
