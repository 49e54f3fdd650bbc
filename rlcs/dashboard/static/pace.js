// How soon a page that is open follows what the run has written. The run may be on this machine, and every redrawing takes
// from it: a page that nobody is at redraws seldom, one that somebody reads as often as a reader follows.

const LEAST_PAUSE = 700;
const ATTENDED = { share: 1 / 40, most: 10_000 }; // part of the time that may go into redrawing; ms between two at most
const LEFT = { share: 1 / 200, most: 60_000 };
const ATTENTION = 20_000; // ms after the page was opened, or after a key, a click or a movement of the pointer
const SIGNS = ["pointermove", "pointerdown", "keydown", "wheel", "touchstart", "focus"];

// `work()` draws anew -> a function that says that there is something to draw.
export function paced(work) {
  let [waiting, drawing, more] = [null, false, false];
  let [ended, cost] = [-Infinity, 0];
  let attended = performance.now() + ATTENTION;

  function wait() {
    const { share, most } = performance.now() < attended ? ATTENDED : LEFT;
    const next = ended + Math.min(most, cost / share);
    waiting = setTimeout(turn, Math.max(LEAST_PAUSE, next - performance.now()));
  }

  async function turn() {
    [waiting, drawing, more] = [null, true, false];
    const began = performance.now();
    try {
      await work();
    } finally {
      ended = performance.now();
      [drawing, cost] = [false, ended - began];
      if (more) wait();
    }
  }

  function attend() {
    const left = performance.now() > attended;
    attended = performance.now() + ATTENTION;
    if (!left || waiting === null) return;
    clearTimeout(waiting);
    wait();
  }
  for (const sign of SIGNS) window.addEventListener(sign, attend, { passive: true });

  return () => {
    more = true; // also for a drawing that is under way, which may have read less
    if (!drawing && waiting === null) wait();
  };
}
