/** Follows the centre's server-sent events; an event only says that something is new. */
import { api, backOffS } from "./api";

export interface LiveEvents {
  connected(): void;
  lost(): void;
  news(): void;
}

export function follow(events: LiveEvents): void {
  let failures = 0;
  const open = () => {
    const source = new EventSource(api.eventsUrl);
    source.addEventListener("open", () => {
      failures = 0;
      events.connected();
    });
    source.addEventListener("version", () => events.news());
    source.addEventListener("error", () => {
      events.lost();
      // The browser reconnects by itself unless the answer was no event stream at all.
      if (source.readyState !== EventSource.CLOSED) return;
      source.close();
      failures += 1;
      window.setTimeout(open, backOffS(failures) * 1000);
    });
  };
  open();
}

/** `task` as a function whose calls while one is under way become one more at its end. */
export function oneAtATime(task: () => Promise<void>): () => Promise<void> {
  let running = false;
  let again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await task();
      }
    } finally {
      running = false;
    }
  };
}
