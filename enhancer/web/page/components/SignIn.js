// Who are you? Above the page, so that nothing on it gets lost.

import { useEffect, useRef, useState } from "react";
import { html } from "./html.js";
import { sentence, t } from "../i18n/language.js";
import { signIn } from "../lib/api/services.js";
import { enter } from "../state/session.js";

export function SignIn({ expired, onClose }) {
  const dialog = useRef(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close(); // gives the focus back
  }, []);
  const send = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    setBusy(true);
    setError("");
    try {
      enter((await signIn(String(given.get("email")), String(given.get("password")))).access_token);
      onClose();
    } catch (problem) {
      setError(sentence(problem));
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="sign-in" onClose=${onClose}>
    <form class="card" onSubmit=${send}>
      <h2 id="sign-in">${t("signIn")}</h2>
      <p>${t(expired ? "expired" : "signInLead")}</p>
      <label class="field"><span>${t("email")}</span><input name="email" type="email" autocomplete="username" required /></label>
      <label class="field"><span>${t("password")}</span><input name="password" type="password" autocomplete="current-password" required /></label>
      <p class="error" role="alert">${error}</p>
      <button class="primary" disabled=${busy}>${t("signIn")}</button>
      <button type="button" class="quiet" onClick=${onClose}>${t("close")}</button>
    </form>
  </dialog>`;
}
