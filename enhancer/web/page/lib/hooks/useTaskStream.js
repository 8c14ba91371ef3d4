// What the two hooks share: a task's stream as the state of a component.

import { useEffect, useRef, useState } from "react";
import { follow } from "./stream.js";

/**
 * @typedef {import("../types").StreamEvent} StreamEvent
 * @typedef {import("../types").StreamOptions<any>} Options
 * @typedef {{load: (id: number) => Promise<any>, reached: (task: any) => object}} Kind
 */

const NOTHING = {
  /** @type {number | null} */ taskId: null,
  /** @type {any[]} */ messages: [],
  isConnected: false,
  /** @type {import("../types").Preview | null} */ preview: null,
  script: "",
};

/**
 * @param {Kind} kind
 * @param {Options} options
 */
export function useTaskStream(kind, options) {
  const [state, setState] = useState(NOTHING);
  const latest = useRef(options); // callbacks change with every render; the stream does not
  latest.current = options;
  const { taskId } = options;

  useEffect(() => {
    if (taskId == null) return undefined;
    /** @param {(state: typeof NOTHING) => Partial<typeof NOTHING>} change */
    const update = (change) => setState((now) => (now.taskId === taskId ? { ...now, ...change(now) } : now));
    setState({ ...NOTHING, taskId });
    const stop = follow({
      address: latest.current.streamUrl,
      load: () => kind.load(taskId),
      snapshot: (task) => ({ ...snapshot(task), ...kind.reached(task) }),
      onConnection: (isConnected) => update(() => ({ isConnected })),
      onExtra: (name, data) => update(() => (name === "script" ? { script: data.script } : { preview: data })),
      onEvent: (event) => {
        update(({ messages }) => ({ messages: placed(messages, event) }));
        announce(event, latest.current);
      },
      onLost: (problem) => latest.current.onError?.(problem.message, problem),
    });
    return () => {
      setState(NOTHING);
      stop();
    };
  }, [kind, taskId]);

  const { messages, isConnected, preview, script } = state.taskId === taskId ? state : NOTHING;
  return { messages, isConnected, lastMessage: messages[messages.length - 1] ?? null, preview, script };
}

/**
 * The event that would tell what a task tells.
 * @param {any} task
 */
const snapshot = ({ error_message, updated_at, ...task }) => ({
  ...task,
  timestamp: Date.parse(updated_at) / 1000,
  error: error_message ?? undefined,
});

/**
 * In the order in which things happened: what a look at the status told may come before what a stream brings later.
 * @param {StreamEvent[]} messages
 * @param {StreamEvent} event
 */
function placed(messages, event) {
  const later = messages.findIndex(({ timestamp }) => timestamp > event.timestamp);
  return later < 0 ? [...messages, event] : [...messages.slice(0, later), event, ...messages.slice(later)];
}

/**
 * @param {StreamEvent} event
 * @param {Options} told
 */
function announce(event, { onComplete, onError, onProgress }) {
  if (event.status === "failed") onError?.(event.error ?? "", event);
  else {
    onProgress?.(event.progress ?? 0, event.message ?? "", event);
    if (event.status === "completed") onComplete?.(event);
    if (event.status === "cancelled") onError?.(event.message ?? "", event);
  }
}
