// All tabs of the page agree: when something changed in one, the others look again.

import { useEffect } from "react";
import { listen } from "./listen.js";

const channel = new BroadcastChannel("enhancer");

// Something was made, ended, tried again or deleted; what is deleted is named, so that nobody asks for it.
export function changed(deleted = "") {
  dispatchEvent(new MessageEvent("tasks", { data: deleted }));
  channel.postMessage(deleted);
}

// Call when something changed, in any tab, or when this one is looked at again.
export function useChanges(look) {
  useEffect(() => {
    const told = ({ data }) => look(data);
    const ends = [
      listen(window, "tasks", told),
      listen(channel, "message", told),
      listen(document, "visibilitychange", () => document.hidden || look()),
    ];
    return () => ends.forEach((end) => end());
  }, [look]);
}
