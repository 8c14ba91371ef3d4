// The second stage: the script, to be edited, and the video that follows it.

import { useEffect, useState } from "react";
import { html } from "./html.js";
import { Duration, length, LIMIT, Words } from "./fields.js";
import { sentence, t } from "../i18n/language.js";
import { generateVideo } from "../lib/api/services.js";

export function VideoForm({ task, again, busy, onAccepted, onNew, say }) {
  const written = task.script ?? "";
  const [prompt, setPrompt] = useState(written);
  const [duration, setDuration] = useState(task.duration);
  const [sending, setSending] = useState(false);
  const [error, setError] = useState("");
  useEffect(() => {
    setPrompt(written);
    setDuration(task.duration);
  }, [task.id]);
  const send = async (event) => {
    event.preventDefault();
    const edited = prompt === written ? undefined : prompt; // the service has the script, however long it is
    if (edited && length(edited) > LIMIT) return document.getElementById("prompt")?.focus();
    setError("");
    setSending(true);
    try {
      onAccepted(await generateVideo({ enhancementId: task.id, prompt: edited, duration, language: task.language }));
    } catch (problem) {
      setError(sentence(problem));
    }
    return setSending(false);
  };
  const copy = () => navigator.clipboard?.writeText(prompt).then(() => say(t("copied")), () => say(t("notCopied"))) ?? say(t("notCopied"));
  return html`<form class="card" onSubmit=${send} noValidate>
    <h2>${t("videoStage")}</h2>
    <${Words} name="prompt" label=${t("script")} rows=${10} value=${prompt} hint=${t("scriptHint")}
      lang=${task.language} onInput=${setPrompt} />
    <div class="actions">
      <button type="button" class="small" onClick=${copy}>${t("copy")}</button>
      ${prompt !== written && html`<button type="button" class="quiet" onClick=${() => setPrompt(written)}>${t("reset")}</button>`}
    </div>
    <${Duration} value=${duration} onChange=${setDuration} />
    <p class="error" role="alert">${error}</p>
    <button class="primary" disabled=${sending || busy || !prompt.trim()}>${t(again ? "generateAgain" : "generate")}</button>
    <button type="button" class="quiet" onClick=${onNew}>${t("newPhoto")}</button>
  </form>`;
}
