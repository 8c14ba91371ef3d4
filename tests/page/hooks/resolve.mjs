const page = new URL("../../../enhancer/web/page/", import.meta.url);
const vendored = {
  react: "vendor/preact-hooks.js",
  preact: "vendor/preact.js",
  "preact/hooks": "vendor/preact-hooks.js",
};
const react = process.env.REACT === "react";

export async function resolve(specifier, context, next) {
  const inPage = context.parentURL?.startsWith(page.href) ?? false;
  if (!react && specifier in vendored) return module_(new URL(vendored[specifier], page).href);
  if (react && inPage && specifier === "react") return next(specifier, { ...context, parentURL: import.meta.url });
  const found = await next(specifier, context);
  return found.url.startsWith(page.href) ? module_(found.url) : found;
}

// the page's files are modules, which no package.json beside them says
const module_ = (url) => ({ url, format: "module", shortCircuit: true });
