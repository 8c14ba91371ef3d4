// One job: a photo is sent, its stream followed, and the image and the script shown.

import { ask, here, Problem } from "./http.js";

const FINAL = ["completed", "failed", "cancelled"];

// Let `form` start jobs, shown in `view`, for whoever is signed in.
export function onOrder(form, view, session) {
  const chosen = form.querySelector("#file");
  let stream = null;
  chosen.addEventListener("change", () => preview(form, chosen.files[0]));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    stream?.close();
    stream = await run(form, view, session);
  });
}

async function run(form, view, { token, signOut }) {
  const button = form.querySelector(".primary");
  const order = new FormData(form);
  begin(view, form.querySelector(".drop img"));
  one(view, ".words").lang = order.get("language");
  say(form, "");
  button.disabled = true;
  try {
    if (!token()) throw new Problem(401, { detail: "Sign in first." });
    const headers = { Authorization: `Bearer ${token()}` };
    const task = await ask("api/v1/ai/enhance-and-script-async", { method: "POST", headers, body: order });
    return follow(task, view);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) signOut();
    say(form, error.message);
    one(view, ".live").hidden = true;
    one(view, ".empty").hidden = false;
    return null;
  } finally {
    button.disabled = false;
  }
}

function follow(task, view) {
  const source = new EventSource(here(task.stream_url, "/api/v1/"));
  one(view, ".made").textContent = `Task ${task.id} · image: ${task.image_model} · script: ${task.script_model}`;
  source.onmessage = ({ data, lastEventId }) => {
    const event = JSON.parse(data);
    note(view, lastEventId, data);
    if (FINAL.includes(event.status)) source.close();
    advance(view, event);
  };
  source.onerror = () => {
    const lost = source.readyState === EventSource.CLOSED;
    one(view, ".message").textContent = lost ? "The stream cannot be opened." : "Connection lost; trying again…";
  };
  return source;
}

function advance(view, event) {
  one(view, ".message").textContent = event.message ?? "";
  view.dataset.status = event.status;
  if (event.progress >= 0) {
    one(view, "progress").value = event.progress;
    one(view, ".percent").textContent = `${event.progress} %`;
  }
  if (event.status === "failed") say(view, `${event.error} (${event.error_code})`);
  if (event.status === "completed") finish(view, event);
}

function finish(view, event) {
  const image = one(view, ".after img");
  const link = one(view, "figcaption a");
  link.href = image.src = here(event.enhanced_image_url, "/uploads/");
  link.hidden = image.hidden = false;
  one(view, ".words").hidden = false;
  one(view, ".script").replaceChildren(...event.script.split("\n").filter(Boolean).map(scene));
  one(view, ".analysis").textContent = event.product_analysis;
}

// A line of a script: [0:00-0:02] What is seen. | What is said.
function scene(line) {
  const [, time, seen, said] = /^\[([^\]]+)\]\s*([^|]*)\|?(.*)$/.exec(line) ?? [null, "", line, ""];
  const row = document.createElement("li");
  row.append(text("span", time), text("span", seen.trim()));
  if (said) row.lastChild.append(text("q", said.trim()));
  return row;
}

function begin(view, photo) {
  delete view.dataset.status;
  one(view, ".empty").hidden = true;
  one(view, ".live").hidden = false;
  one(view, ".words").hidden = true;
  one(view, ".after img").hidden = one(view, "figcaption a").hidden = true;
  one(view, ".before img").src = photo.src;
  one(view, ".images").dataset.orientation = orientation(photo);
  one(view, ".events ol").replaceChildren();
  one(view, ".message").textContent = "Sending the photo…";
  one(view, ".percent").textContent = one(view, ".made").textContent = "";
  one(view, "progress").value = 0;
  say(view, "");
  if (view.getBoundingClientRect().top > innerHeight / 2) view.scrollIntoView();
}

// As the service sees it: sides within 5 % of each other are square.
function orientation({ naturalWidth: width, naturalHeight: height }) {
  if (Math.max(width, height) <= 1.05 * Math.min(width, height)) return "square";
  return width > height ? "landscape" : "portrait";
}

function preview(form, file) {
  const image = form.querySelector(".drop img");
  if (image.src) URL.revokeObjectURL(image.src);
  image.hidden = !file;
  if (file) image.src = URL.createObjectURL(file);
  else image.removeAttribute("src");
  form.querySelector(".drop b").textContent = file ? file.name : "Choose a photo";
}

function note(view, id, data) {
  const item = text("li", data);
  item.value = id;
  one(view, ".events ol").append(item);
}

function say(place, sentence) {
  const notice = one(place, ".notice");
  notice.textContent = sentence;
  notice.hidden = !sentence;
}

function text(name, content) {
  const element = document.createElement(name);
  element.textContent = content;
  return element;
}

function one(place, selector) {
  return place.querySelector(selector);
}
