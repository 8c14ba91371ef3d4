// A hook in a component, on a DOM without a browser, by React or by Preact.

import { Window } from "happy-dom";
import { EventSource } from "eventsource";

const window = new Window();
Object.assign(globalThis, { EventSource, window, document: window.document });
globalThis.navigator ??= window.navigator; // newer versions of Node have their own

const renderer = process.env.REACT === "react" ? await byReact() : await byPreact();

/** Use a hook in a mounted component; `renders` is what it returned, render by render. */
export function mount(hook, options) {
  const renders = [];
  const Component = (props) => {
    renders.push(hook(props));
    return null;
  };
  const root = renderer(Component);
  root.render(options);
  return { renders, last: () => renders.at(-1), render: root.render, unmount: root.unmount };
}

async function byReact() {
  const { createElement } = await import("react");
  const { createRoot } = await import("react-dom/client");
  const { flushSync } = await import("react-dom");
  return (Component) => {
    const root = createRoot(document.createElement("div"));
    const render = (props) => flushSync(() => root.render(createElement(Component, props)));
    return { render, unmount: () => flushSync(() => root.unmount()) };
  };
}

async function byPreact() {
  const { h, render: draw } = await import("preact");
  return (Component) => {
    const place = document.createElement("div");
    return { render: (props) => draw(h(Component, props), place), unmount: () => draw(null, place) };
  };
}

/** Wait for a condition. */
export async function until(condition, what = String(condition)) {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
