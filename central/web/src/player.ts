/** Plays through the stored intervals: one after the other, as fast as chosen and as drawn. */

/** What came of asking for the next interval. */
export type Step = "shown" | "waiting" | "end";

export class Player {
  #playing = false;

  constructor(
    readonly stepsPerS: () => number,
    readonly next: (due: boolean) => Step,
    readonly ended: () => void,
  ) {}

  get playing(): boolean {
    return this.#playing;
  }

  start(): void {
    if (this.#playing) return;
    this.#playing = true;
    const startedMs = performance.now();
    let drawn = 0;
    const frame = (nowMs: number) => {
      if (!this.#playing) return;
      const due = Math.floor(((nowMs - startedMs) / 1000) * this.stepsPerS());
      const step = this.next(due > drawn);
      if (step === "end") return this.ended();
      // A slow machine draws fewer intervals a second; it leaves none out.
      if (step === "shown") drawn = due;
      window.requestAnimationFrame(frame);
    };
    window.requestAnimationFrame(frame);
  }

  stop(): void {
    this.#playing = false;
  }
}
