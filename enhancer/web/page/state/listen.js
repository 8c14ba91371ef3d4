// Call for any of these events; returns what ends it.
export function listen(target, events, handler) {
  for (const event of events.split(" ")) target.addEventListener(event, handler);
  return () => events.split(" ").forEach((event) => target.removeEventListener(event, handler));
}
