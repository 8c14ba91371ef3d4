// Tasks as the page knows them: the one that is open, and the list of all.

import { useCallback, useEffect, useState } from "react";
import { Problem } from "../lib/api/client.js";
import { enhancements, videos } from "../lib/api/services.js";
import { isFinal } from "../lib/hooks/stream.js";
import { useChanges } from "./tabs.js";

const LOOK = 5000; // milliseconds between two looks at a list in which something runs

export const KINDS = { enhancement: enhancements, video: videos };

// The open task of a kind, as the service has it; loaded again when something changed.
export function useTask(kind, id, token) {
  const [state, setState] = useState({ id: null, task: null, problem: null });
  const load = useCallback((deleted = "") => {
    if (id == null || !token) return;
    if (deleted === kind + id) return setState({ id, task: null, problem: new Problem(404, { code: "not_found" }) });
    KINDS[kind].get(id).then(
      (task) => setState({ id, task, problem: null }),
      (problem) => setState((now) => ({ id, task: problem.passing && now.id === id ? now.task : null, problem })),
    );
  }, [kind, id, token]);
  useEffect(() => {
    if (state.id !== id) load();
  }, [load]);
  useChanges(load);
  const setTask = (task) => setState({ id: task.id, task, problem: null });
  return state.id === id ? { ...state, setTask } : { task: null, problem: null, setTask };
}

// Everything that the user has made, the newest first.
export function useHistory(token) {
  const [state, setState] = useState({
    items: null, problem: null, pages: 1, more: false,
  });
  const { pages } = state;
  const load = useCallback(async () => {
    if (!token) return;
    try {
      const lists = await Promise.all([all("enhancement", pages), all("video", pages)]);
      const items = lists.flatMap((list) => list.items).sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at));
      setState((now) => ({ ...now, items, problem: null, more: lists.some((list) => list.more) }));
    } catch (problem) {
      setState((now) => ({ ...now, problem: problem }));
    }
  }, [token, pages]);
  useEffect(() => {
    load();
  }, [load]);
  useChanges(load);
  const running = state.items?.some((item) => !isFinal(item)) || state.problem?.passing;
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => document.hidden || load(), LOOK);
    return () => clearInterval(timer);
  }, [running, load]);
  const showMore = () => setState((now) => ({ ...now, pages: now.pages + 1 }));
  return { ...state, items: token ? state.items : null, load, showMore };
}

async function all(kind, pages) {
  const items = [];
  let cursor;
  for (let page = 0; page < pages && cursor !== null; page += 1) {
    const got = await KINDS[kind].list({ cursor, limit: 12 });
    items.push(...got.items.map((item) => ({ ...item, kind })));
    cursor = got.next_cursor;
  }
  return { items, more: cursor != null };
}
