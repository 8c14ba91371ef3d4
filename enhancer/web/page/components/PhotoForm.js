// The first stage: a photo, what it shows, and how the advertisement shall be.

import { useEffect, useRef, useState } from "react";
import { html, names } from "./html.js";
import { Duration, Language, length, LIMIT, Words } from "./fields.js";
import { sentence, t } from "../i18n/language.js";
import { enhanceAndGenerateScriptAsync } from "../lib/api/services.js";
import { listen } from "../state/listen.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
const MAX_MB = Number(document.documentElement.dataset.maxUploadMb);

// An order that nobody has sent yet; its key lets a lost answer be asked for again.
export const draft = (given) => ({
  file: null, description: "", duration: 4, language: document.documentElement.lang, ...given,
  key: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`,
});

// MB as people read them.
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

export function PhotoForm({ value, signedIn, onChange, onSignIn, onAccepted }) {
  const [error, setError] = useState("");
  const [sending, setSending] = useState(false);
  const change = (given) => onChange(draft({ ...value, ...given }));
  const take = (file) => {
    const wrong = file ? fault(file) : "";
    setError(wrong);
    if (file && !wrong) change({ file });
  };
  const send = async (event) => {
    event.preventDefault();
    if (!value.file) return setError(t("noPhoto"));
    if (length(value.description) > LIMIT) return document.getElementById("description")?.focus();
    if (!signedIn) return onSignIn();
    setError("");
    setSending(true);
    try {
      onAccepted(await enhanceAndGenerateScriptAsync(value.file, value.description, value));
    } catch (problem) {
      const { status } = problem;
      if (status !== 401) setError(sentence(problem));
    }
    return setSending(false);
  };
  return html`<form class="card" onSubmit=${send} noValidate>
    <${Photo} file=${value.file} error=${error} onFile=${take} onUnreadable=${() => {
      change({ file: null });
      setError(t("unreadable"));
    }} />
    <${Words} name="description" label=${t("description")} rows=${3} value=${value.description}
      placeholder=${t("descriptionHint")} onInput=${(description) => change({ description })} />
    <div class="row">
      <${Duration} value=${value.duration} onChange=${(duration) => change({ duration })} />
      <${Language} value=${value.language} onChange=${(language) => change({ language })} />
    </div>
    <button class="primary" disabled=${sending}>${sending ? t("sending") : t("enhance")}</button>
  </form>`;
}

// What is wrong with a file, as far as can be told at once.
function fault(file) {
  if (!TYPES.includes(file.type)) return t("wrongType");
  return file.size > MAX_MB * 1e6 ? t("tooLarge", { size: megabytes(file.size), mb: MAX_MB }) : "";
}

// Chosen, dropped anywhere on the page, or pasted.
function Photo({ file, error, onFile, onUnreadable }) {
  const [over, setOver] = useState(false);
  const input = useRef(null);
  const take = useRef(onFile);
  take.current = onFile;
  useEffect(() => {
    const drag = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(event.type === "dragover");
      if (event.type === "drop") take.current(event.dataTransfer.files[0]);
    };
    const leave = (event) => event.relatedTarget || setOver(false);
    const paste = (event) => {
      const pasted = event.clipboardData?.files[0];
      if (pasted) take.current(pasted);
    };
    const ends = [
      listen(window, "dragover drop", drag),
      listen(window, "dragleave", leave),
      listen(window, "paste", paste),
    ];
    return () => ends.forEach((end) => end());
  }, []);
  const chosen = () => {
    take.current(input.current?.files?.[0]);
    if (input.current) input.current.value = ""; // the same file may be chosen again
  };
  return html`<div class="field">
    <span id="photo-label">${t("photo")}</span>
    <div class=${names("drop", over && "over", file && "filled")}>
      ${file && html`<${Preview} file=${file} onUnreadable=${onUnreadable} />`}
      <input id="file" ref=${input} type="file" accept=${TYPES.join()} aria-labelledby="photo-label file-label"
        aria-describedby="file-error" aria-invalid=${Boolean(error)} onChange=${chosen} />
      <label id="file-label" for="file">
        <b>${over ? t("dropNow") : file ? t("otherPhoto") : t("choose")}</b>
        ${!file && html`<span>${t("orDrop", { mb: MAX_MB })}</span>`}
      </label>
    </div>
    <p class="error" id="file-error" role="alert">${error}</p>
  </div>`;
}

function Preview({ file, onUnreadable }) {
  const [size, setSize] = useState("");
  const url = useUrl(file);
  const loaded = ({ target }) => setSize(`${target.naturalWidth}×${target.naturalHeight} · ${megabytes(file.size)}`);
  return html`<figure>
    ${url && html`<img src=${url} alt=${t("photoAlt")} onLoad=${loaded} onError=${onUnreadable} />`}
    <figcaption><span>${file.name}</span> <span>${size}</span></figcaption>
  </figure>`;
}

// An address of a file or blob, as long as it is shown.
export function useUrl(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!blob) return undefined;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => {
      setUrl("");
      URL.revokeObjectURL(made);
    };
  }, [blob]);
  return url;
}
