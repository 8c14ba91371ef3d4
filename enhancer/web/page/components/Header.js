// The bar on top: where one is, the language, the account.

import { html } from "./html.js";
import { choose, language, LANGUAGES, t } from "../i18n/language.js";
import { leave } from "../state/session.js";
import { go } from "../state/route.js";

export function Header({ signedIn, onSignIn, onLanguage }) {
  const home = (event) => {
    event.preventDefault();
    go({});
  };
  const other = language() === "zh" ? "en" : "zh";
  const change = () => choose(other).then(onLanguage);
  return html`<header class="bar">
    <a class="brand" href="." onClick=${home}><img src="docs/assets/icon.svg" alt="" width="28" height="28" />Enhancer</a>
    <nav>
      <a href="docs">${t("docs")}</a>
      <button class="quiet" lang=${other} title=${t("language")} onClick=${change}>${LANGUAGES[other]}</button>
      ${signedIn
        ? html`<button class="quiet" onClick=${() => leave()}>${t("signOut")}</button>`
        : html`<button class="small" onClick=${onSignIn}>${t("signIn")}</button>`}
    </nav>
  </header>`;
}
