// What is open stands in the address: #enhancement=12&video=3.

import { useEffect, useState } from "react";
import { listen } from "./listen.js";

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const id = (name) => Number(given.get(name)) || null;
  return { enhancement: id("enhancement"), video: id("video") };
}

/** @param {{enhancement?: number | null, video?: number | null}} route */
export function go(route, { replace = false } = {}) {
  const given = new URLSearchParams(Object.entries(route).filter(([, id]) => id).map(([name, id]) => [name, `${id}`]));
  history[replace ? "replaceState" : "pushState"](null, "", given.size ? `#${given}` : location.pathname);
  dispatchEvent(new Event("route"));
}

export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => listen(window, "route popstate hashchange", () => setRoute(read())), []);
  return route;
}
