// All tabs of the page agree: when something changed in one, the others look again.

import { useEffect } from "react";
import { listen } from "./listen.js";

const channel = new BroadcastChannel("enhancer");

// Something was made, ended, tried again or deleted.
export function changed() {
  dispatchEvent(new Event("change-of-tasks"));
  channel.postMessage("");
}

// Call when something changed, in any tab, or when this one is looked at again.
export function useChanges(look) {
  useEffect(() => {
    const ends = [
      listen(window, "change-of-tasks", look),
      listen(channel, "message", look),
      listen(document, "visibilitychange", () => document.hidden || look()),
    ];
    return () => ends.forEach((end) => end());
  }, [look]);
}
