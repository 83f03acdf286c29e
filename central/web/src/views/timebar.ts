/** The time bar: step, play, speed, exact entry, live, and the slider over all stored days. */
import { h, icon, reducedMotion } from "../dom";
import type { Moment, Timeline, TownClock } from "../time";
import { exact, words } from "../words";

const SPEEDS = [2, 4, 8, 16] as const;
const PLAY = "M4 2.5v11l9.5-5.5z";
const PAUSE = "M4 2.5h3v11H4zM9 2.5h3v11H9z";
const BACK = "M11.5 2.5v11L5 8zM3.2 2.5h1.6v11H3.2z";
const ON = "M4.5 2.5v11L11 8zM11.2 2.5h1.6v11h-1.6z";

export interface TimebarEvents {
  seek(index: number): void;
  play(): void;
  live(): void;
  speed(stepsPerS: number): void;
}

export class Timebar {
  readonly element: HTMLElement;
  readonly #slider = h("input", {
    type: "range",
    min: 0,
    max: 0,
    step: 1,
    value: 0,
    "aria-label": words.slider,
    "data-part": "slider",
  });
  readonly #back = button(words.stepBack, icon(BACK));
  readonly #play = button(words.play, icon(PLAY), "primary");
  readonly #on = button(words.stepForward, icon(ON));
  readonly #speed = h("select", { "aria-label": words.speed, title: words.speed });
  readonly #shown = h("output", { class: "shown", "data-part": "time" });
  readonly #entry = h("input", {
    type: "text",
    size: 17,
    placeholder: words.timeForm,
    "aria-label": `${words.go}, ${words.timeForm}`,
    title: `${words.go}, ${words.timeForm}`,
    autocomplete: "off",
    spellcheck: "false",
    "data-part": "entry",
  });
  readonly #entryNote = h("span", { class: "entry-note", role: "alert" });
  readonly #live = h("button", { type: "button", class: "live", "aria-pressed": "false" }, words.live);
  readonly #coverage = h("div", { class: "coverage", "data-part": "coverage" });
  readonly #ticks = h("div", { class: "ticks", "aria-hidden": "true" });
  readonly #strip = h("canvas", { class: "strip", "aria-hidden": "true" });
  readonly #stripNote = h("span", { class: "strip-note" });
  #timeline: Timeline | null = null;
  #clock: TownClock | null = null;
  #town: readonly (number | null)[] = [];

  constructor(readonly events: TimebarEvents) {
    this.element = h(
      "section",
      { class: "timebar", "aria-label": "Time" },
      h(
        "div",
        { class: "controls" },
        h("div", { class: "group" }, this.#back, this.#play, this.#on, this.#speed),
        this.#shown,
        h("div", { class: "group" }, this.#entry, this.#live, this.#entryNote),
        this.#coverage,
      ),
      h("div", { class: "track" }, this.#strip, this.#stripNote, this.#slider, this.#ticks),
    );
    this.#slider.addEventListener("input", () => events.seek(this.#slider.valueAsNumber));
    this.#slider.addEventListener("keydown", (event) => this.#pageKeys(event));
    this.#back.addEventListener("click", () => events.seek(this.#slider.valueAsNumber - 1));
    this.#on.addEventListener("click", () => events.seek(this.#slider.valueAsNumber + 1));
    this.#play.addEventListener("click", () => events.play());
    this.#live.addEventListener("click", () => events.live());
    this.#speed.addEventListener("change", () => events.speed(Number(this.#speed.value)));
    this.#entry.addEventListener("change", () => this.#enter());
    new ResizeObserver(() => this.#drawStrip()).observe(this.#strip);
  }

  setTimeline(timeline: Timeline, clock: TownClock): void {
    this.#timeline = timeline;
    this.#clock = clock;
    this.element.classList.toggle("waiting", timeline.length === 0);
    this.#slider.max = String(Math.max(0, timeline.length - 1));
    for (const control of [this.#slider, this.#back, this.#play, this.#on, this.#live, this.#entry]) {
      control.disabled = timeline.length === 0;
    }
    if (this.#speed.options.length === 0) {
      const most = reducedMotion() ? SPEEDS.slice(0, 1) : SPEEDS;
      this.#speed.append(
        ...most.map((s) => h("option", { value: s }, words.speedOption(s, timeline.intervalS))),
      );
      this.#speed.value = String(most[Math.min(1, most.length - 1)]);
    }
    this.#drawTicks();
  }

  setMoment(moment: Moment): void {
    const clock = this.#clock!;
    this.#slider.value = String(moment.index);
    this.#slider.setAttribute("aria-valuetext", clock.full(moment.endUtcS));
    this.#shown.replaceChildren(
      h("strong", {}, clock.time(moment.endUtcS)),
      h(
        "span",
        {},
        `${clock.short(moment.endUtcS).split(",")[0]}`,
        h("small", {}, clock.offset(moment.endUtcS)),
      ),
    );
    this.#shown.setAttribute("aria-label", clock.full(moment.endUtcS));
    if (document.activeElement !== this.#entry) this.#entry.value = clock.field(moment.endUtcS).replace("T", " ");
    this.#entryNote.textContent = "";
    const value = this.#town[moment.index] ?? null;
    this.#stripNote.textContent = value === null ? "" : `${words.townLoad} ${exact(value)} MW`;
  }

  setCoverage(day: string, known: string): void {
    this.#coverage.replaceChildren(h("span", {}, words.coverage, " ", h("b", {}, day)), h("small", {}, known));
  }

  setPlaying(playing: boolean): void {
    const label = playing ? words.pause : words.play;
    this.#play.replaceChildren(icon(playing ? PAUSE : PLAY));
    this.#play.setAttribute("aria-label", label);
    this.#play.title = label;
  }

  setLive(live: boolean): void {
    this.#live.setAttribute("aria-pressed", String(live));
    this.#live.title = live ? words.liveOn : words.liveOff;
  }

  /** Town load in MW at every interval of the timeline, drawn behind the slider. */
  setTownLoad(town: readonly (number | null)[]): void {
    this.#town = town;
    this.#drawStrip();
  }

  get stepsPerS(): number {
    return Number(this.#speed.value) || SPEEDS[0];
  }

  #pageKeys(event: KeyboardEvent): void {
    const perDay = this.#timeline ? Math.round(86_400 / this.#timeline.intervalS) : 96;
    const move = event.key === "PageUp" ? perDay : event.key === "PageDown" ? -perDay : 0;
    if (move === 0) return;
    event.preventDefault();
    this.events.seek(this.#slider.valueAsNumber + move);
  }

  #enter(): void {
    const timeline = this.#timeline;
    const clock = this.#clock;
    if (!timeline || !clock) return;
    const wanted = clock.parse(this.#entry.value.trim().replace(/\s+/, "T"));
    const first = timeline.firstEndUtcS ?? 0;
    const last = timeline.lastEndUtcS ?? 0;
    if (wanted === null) this.#entryNote.textContent = words.badTime;
    else if (wanted < first || wanted > last) {
      this.#entryNote.textContent = words.outside(clock.short(first), clock.short(last));
    } else this.events.seek(timeline.nearest(wanted));
  }

  #drawTicks(): void {
    const timeline = this.#timeline!;
    const clock = this.#clock!;
    const ticks: HTMLElement[] = [];
    const every = Math.max(1, Math.ceil(timeline.length / 96 / 14));
    let seen = 0;
    for (let i = 0; i < timeline.length; i++) {
      const { endUtcS } = timeline.at(i)!;
      if (!clock.isMidnight(endUtcS) && i !== 0) continue;
      if (i !== 0 && seen++ % every !== 0) continue;
      const share = timeline.length > 1 ? i / (timeline.length - 1) : 0;
      const soon = i === 0 && nextMidnight(timeline, clock) < timeline.length * 0.06;
      const label = soon ? "" : `${clock.weekday(endUtcS)} ${clock.date(endUtcS)}`;
      const tick = h("span", {}, label);
      tick.style.left = `${share * 100}%`;
      if (share > 0.965) tick.classList.add("last");
      ticks.push(tick);
    }
    this.#ticks.replaceChildren(...ticks);
  }

  #drawStrip(): void {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.#strip.clientWidth * ratio);
    const height = Math.round(this.#strip.clientHeight * ratio);
    const context = this.#strip.getContext("2d");
    if (!context || width === 0) return;
    this.#strip.width = width;
    this.#strip.height = height;
    const top = this.#town.reduce<number>((most, v) => Math.max(most, v ?? 0), 0);
    if (top <= 0 || this.#town.length < 2) return;
    const x = (i: number) => (i / (this.#town.length - 1)) * width;
    context.fillStyle = "#33475a";
    const column = Math.ceil(width / this.#town.length);
    this.#town.forEach((value, i) => {
      if (value === null) return;
      const bar = (value / top) * (height - 2 * ratio);
      context.fillRect(Math.floor(x(i) - column / 2), height - bar, column, bar);
    });
  }
}

function nextMidnight(timeline: Timeline, clock: TownClock): number {
  for (let i = 1; i < timeline.length; i++) if (clock.isMidnight(timeline.at(i)!.endUtcS)) return i;
  return timeline.length;
}

function button(label: string, content: Node, kind = ""): HTMLButtonElement {
  return h("button", { type: "button", "aria-label": label, title: label, class: kind }, content);
}
