// One task's stream, followed to its end whatever happens on the way.
//
// The browser's EventSource reconnects by itself after a broken connection, and gives up for good after any answer but
// 200; then a new one is built, after the last id. The status is looked at beside it when the stream stays silent: so
// a task can be followed where streams are blocked or held back by a proxy.

import { here } from "../api/client.js";

/** Milliseconds: before the first new attempt, the longest pause, how long a stream may say nothing. */
export const PACE = { retry: 1000, longest: 5000, silence: 6000, quiet: 30_000 };

const FINAL = ["completed", "failed", "cancelled"];

/** Whether nothing comes after this. @param {{status: string}} task */
export const isFinal = ({ status }) => FINAL.includes(status);

/**
 * Follow a task until its end.
 * @param {import("../types").Following} following
 * @returns {() => void} stops it
 */
export function follow({ address, load, snapshot, onEvent, onConnection, onExtra, onLost }) {
  /** @type {EventSource | undefined} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** What was said already, and whether only a look at the status said it. @type {Map<string, boolean>} */
  const said = new Map();
  let lastId = 0;
  let failures = 0;
  let looks = 0; // at the status, since the stream last spoke
  let endings = 0; // of them, those that saw the end
  let over = false;

  /** @param {string} link */
  function open(link) {
    const url = new URL(here(link));
    if (lastId) url.searchParams.set("last_event_id", String(lastId));
    const opened = (source = new EventSource(url.href));
    opened.onopen = () => mine(opened) && onConnection(true);
    opened.onmessage = (message) => mine(opened) && hear(message);
    opened.onerror = () => mine(opened) && fail();
    for (const name of /** @type {const} */ (["preview", "script"])) {
      opened.addEventListener(name, (message) => mine(opened) && onExtra(name, JSON.parse(message.data)));
    }
    lookIn(PACE.silence);
  }

  /** @param {EventSource} opened */
  const mine = (opened) => !over && opened === source;

  /** @param {MessageEvent} message */
  function hear({ data, lastEventId }) {
    const id = Number(lastEventId);
    failures = looks = endings = 0;
    lookIn(PACE.quiet);
    if (id && id <= lastId) return;
    lastId = id || lastId;
    const event = JSON.parse(data);
    if (!said.get(key(event))) tell(event, false);
  }

  function fail() {
    failures += 1;
    onConnection(false);
    const pause = Math.min(PACE.retry * 2 ** (failures - 1), PACE.longest);
    lookIn(pause * (0.75 + Math.random() / 2)); // not all clients of a restarted service at once
  }

  /** @param {number} pause */
  function lookIn(pause) {
    clearTimeout(timer);
    timer = setTimeout(look, pause);
  }

  async function look() {
    try {
      const task = await load();
      if (over) return;
      looks += 1;
      if (isFinal(task)) endings += 1;
      // the stream tells more: the status speaks only when the stream had its chance, also to tell the end
      const due = isFinal(task) ? endings > 1 : looks > 1 && task.message;
      const news = due && !said.has(key(snapshot(task)));
      if (news) tell(snapshot(task), true);
      if (over) return;
      if (!source || source.readyState === 2 || (news && source.readyState === 1)) renew(task.stream_url);
      else lookIn(looks > 1 && source.readyState ? PACE.quiet : PACE.silence);
    } catch (error) {
      const problem = /** @type {import("../api/client.js").Problem} */ (error);
      if (over) return;
      if (problem.passing ?? true) return fail();
      stop();
      onLost(problem);
    }
  }

  /** @param {string} link */
  function renew(link) {
    source?.close();
    open(link);
  }

  /** @param {import("../types").StreamEvent} event @param {boolean} polled */
  function tell(event, polled) {
    said.set(key(event), polled);
    if (isFinal(event)) stop();
    onEvent(event);
  }

  function stop() {
    over = true;
    clearTimeout(timer);
    source?.close();
    onConnection(false);
  }

  if (address) open(address);
  else look();
  return stop;
}

/** @param {import("../types").StreamEvent & {step?: number}} event */
const key = ({ status, step, progress, message }) => [status, step, isFinal({ status }) || progress, message].join();
