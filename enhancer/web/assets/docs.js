// The documentation: who is signed in (the same as on the page at /), and the reference by Swagger UI.

import { ask, base, Problem } from "./http.js";

const KEY = "enhancer.token";
const signIn = document.querySelector("#sign-in");
const session = document.querySelector(".session");
let reference = null;

// A token in the address leaves it at once: it must not stay in the history, in bookmarks or on a screen.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    localStorage.setItem(KEY, given);
  }
  showSession();
}

function token() {
  return localStorage.getItem(KEY);
}

function showSession() {
  signIn.hidden = Boolean(token());
  session.hidden = !token();
  if (token()) reference?.preauthorizeApiKey("bearer", token());
}

function signOut() {
  if (token()) reference?.authActions.logout(["bearer"]);
  localStorage.removeItem(KEY);
  showSession();
}

async function onSignIn(event) {
  event.preventDefault();
  const notice = signIn.querySelector(".notice");
  const given = Object.fromEntries(new FormData(signIn));
  notice.hidden = true;
  try {
    localStorage.setItem(KEY, given.token.trim() || (await login(given)).access_token);
    signIn.reset();
    showSession();
    session.querySelector("#sign-out").focus();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    notice.textContent = error.message;
    notice.hidden = false;
  }
}

function login({ email, password }) {
  const body = JSON.stringify({ email, password });
  return ask("api/v1/auth/login", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

// Calls go to where this page came from, which may have another name than the one in the service's settings.
async function showReference() {
  const spec = await ask("openapi.json");
  spec.servers = [{ url: base.href.replace(/\/$/, ""), description: "This service" }];
  reference = window.SwaggerUIBundle({
    spec,
    domNode: document.querySelector("#reference"),
    deepLinking: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    filter: true,
    onComplete: showSession,
  });
}

function followColours(dark) {
  const apply = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

takeToken();
followColours(matchMedia("(prefers-color-scheme: dark)"));
addEventListener("hashchange", takeToken);
signIn.addEventListener("submit", onSignIn);
session.querySelector("#sign-out").addEventListener("click", signOut);
addEventListener("storage", showSession);
addEventListener("DOMContentLoaded", showReference);
