// The page: who is signed in, what is open, and what is told beside it.

import { render } from "preact";
import { useCallback, useEffect, useState } from "react";
import { html, names } from "./components/html.js";
import { Header } from "./components/Header.js";
import { HeroSection } from "./components/HeroSection.js";
import { History } from "./components/History.js";
import { SignIn } from "./components/SignIn.js";
import { Toast } from "./components/Toast.js";
import { speak, t } from "./i18n/language.js";
import { isFinal } from "./lib/hooks/stream.js";
import { go, useRoute } from "./state/route.js";
import { takeToken, useSession } from "./state/session.js";
import { useHistory } from "./state/tasks.js";

function App() {
  const { token, expired } = useSession();
  const route = useRoute();
  const history = useHistory(token);
  const [asking, setAsking] = useState(!token);
  const [toast, setToast] = useState("");
  const [, redraw] = useState(0);
  const signedIn = Boolean(token);
  const say = useCallback((text) => setToast(text), []);

  useEffect(() => {
    if (expired) setAsking(true);
    if (token) setAsking(false);
  }, [token, expired]);

  // opened again without an address: what is being made is shown
  const [resumed, setResumed] = useState(Boolean(route.enhancement || route.video));
  useEffect(() => {
    if (resumed || !history.items) return;
    setResumed(true);
    const running = history.items.find((item) => !isFinal(item));
    if (running) go(address(running, history.items), { replace: true });
  }, [history.items]);

  const open = (item) => {
    setResumed(true);
    go(address(item, history.items ?? []));
    document.getElementById("main")?.focus();
    scrollTo({ top: 0 });
  };
  const gone = (item) => {
    if (route[item.kind] === item.id) go({ ...route, [item.kind]: null });
    document.getElementById("history")?.focus();
  };
  return html`
    <${Header} signedIn=${signedIn} onSignIn=${() => setAsking(true)} onLanguage=${() => redraw((n) => n + 1)} />
    <main id="main" tabindex="-1">
      <div class=${names("hero", (route.enhancement || route.video) && "open-task")}><h1>${t("title")}</h1><p>${t("lead")}</p></div>
      <${HeroSection} token=${token} route=${route} onSignIn=${() => setAsking(true)} say=${say} />
      <${History} history=${history} signedIn=${signedIn} open=${route} onOpen=${open} onDeleted=${gone} say=${say} />
    </main>
    <${Toast} text=${toast} onClose=${() => setToast("")} />
    ${asking && html`<${SignIn} expired=${expired} onClose=${() => setAsking(false)} />`}`;
}

// A video is shown with what it was made of, and a photo with its latest video.
function address(item, items) {
  if (item.kind === "video") return { enhancement: item.enhancement_id, video: item.id };
  const latest = items.find(({ kind, enhancement_id }) => kind === "video" && enhancement_id === item.id);
  return { enhancement: item.id, video: latest?.id ?? null };
}

takeToken();
await speak(document.documentElement.lang);
render(html`<${App} />`, document.getElementById("app"));
