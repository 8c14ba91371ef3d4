// Who is signed in: an account token, shared by all tabs of the browser.

import { useEffect, useState } from "react";
import { configure } from "../lib/api/client.js";
import { listen } from "./listen.js";

const KEY = "enhancer.token";

let expired = false; // the token was lost rather than given up

const token = () => localStorage.getItem(KEY);

export function enter(given) {
  localStorage.setItem(KEY, given);
  tell(false);
}

export function leave(lost = false) {
  localStorage.removeItem(KEY);
  tell(lost);
}

// A token in the address leaves it at once: it must not stay in the history, in bookmarks or on a screen.
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = given.get("token");
  if (!found) return;
  given.delete("token");
  history.replaceState(null, "", location.pathname + location.search + (given.size ? `#${given}` : ""));
  enter(found);
}

export function useSession() {
  const read = () => ({ token: token(), expired });
  const [session, setSession] = useState(read);
  useEffect(() => listen(window, "session storage", () => setSession(read())), []);
  useEffect(() => listen(window, "hashchange", takeToken), []);
  return session;
}

function tell(lost) {
  expired = lost;
  dispatchEvent(new Event("session"));
}

configure({ apiUrl: new URL("api/v1/", document.baseURI), token, onUnauthenticated: () => leave(true) });
