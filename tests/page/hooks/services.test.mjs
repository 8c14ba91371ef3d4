// The calls, against a server that remembers what it was asked.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";

const api = new URL("../../../enhancer/web/page/lib/api/", import.meta.url);
const { configure, here, now, Problem } = await import(new URL("client.js", api));
const services = await import(new URL("services.js", api));

let server;
let asked;
let answer;

before(async () => {
  server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, url, headers } = request;
    asked.push({ call: `${method} ${url}`, headers, body: Buffer.concat(chunks).toString() });
    const [status, body, more = {}] = answer;
    response.writeHead(status, { Date: "Thu, 01 Jan 2060 00:00:00 GMT", ...more }).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  configure({ apiUrl: `http://127.0.0.1:${server.address().port}/ads/api/v1`, token: () => "account-token" });
});

after(() => {
  server.close();
  server.closeAllConnections();
});

beforeEach(() => {
  asked = [];
  answer = [200, '{"id": 7}'];
});

test("a photo goes out as a form, with its name for the order", async () => {
  const task = await services.enhanceAndGenerateScriptAsync(new Blob(["pixels"]), "A cup", { duration: 8, language: "zh", key: "once" });
  const [{ call, headers, body }] = asked;
  assert.equal(task.id, 7);
  assert.equal(call, "POST /ads/api/v1/ai/enhance-and-script-async");
  assert.equal(headers.authorization, "Bearer account-token");
  assert.equal(headers["idempotency-key"], "once");
  assert.match(headers["content-type"], /^multipart\/form-data/);
  for (const part of [/user_description"\s+A cup/, /duration"\s+8/, /language"\s+zh/, /name="file"[^]*pixels/]) assert.match(body, part);
});

test("a video is ordered by the enhancement that it is made of", async () => {
  await services.generateVideo({ enhancementId: 7, prompt: "Steam rises.", duration: 12 });
  assert.equal(asked[0].call, "POST /ads/api/v1/videos/generate");
  assert.deepEqual(JSON.parse(asked[0].body), { enhancement_id: 7, prompt: "Steam rises.", duration: 12 });
});

test("tasks of both kinds are asked for, cancelled, tried again and removed", async () => {
  await services.getEnhancementStatus(7);
  for (const kind of [services.enhancements, services.videos]) {
    await kind.get(7);
    await kind.list({ status: "failed", cursor: undefined, limit: 3 });
    await kind.cancel(7);
    await kind.retry(7);
    answer = [204, ""];
    assert.equal(await kind.remove(7), null);
    answer = [200, "{}"];
  }
  const calls = (path) => [`GET ${path}/7`, `GET ${path}?status=failed&limit=3`, `POST ${path}/7/cancel`, `POST ${path}/7/retry`, `DELETE ${path}/7`];
  assert.deepEqual(asked.map(({ call }) => call.replace("/ads/api/v1/", "")), [
    "GET ai/enhance-and-script/7/status", ...calls("ai/enhance-and-script"), ...calls("videos"),
  ]);
});

test("an error is an object with a code and a sentence", async () => {
  answer = [422, JSON.stringify({ code: "invalid_request", detail: "This is wrong.", errors: [{ field: "duration", message: "4, 8 or 12" }] })];
  await assert.rejects(services.getEnhancementStatus(7), (problem) => {
    assert.ok(problem instanceof Problem);
    assert.deepEqual([problem.status, problem.code, problem.passing], [422, "invalid_request", false]);
    assert.equal(problem.message, "This is wrong. duration: 4, 8 or 12");
    return true;
  });
  answer = [503, "<html>a proxy's own page</html>", { "Retry-After": "30" }];
  await assert.rejects(services.videos.get(7), { status: 503, code: "internal", retryAfter: 30, passing: true });
});

test("a service that is away is an error too", async () => {
  const { port } = server.address();
  configure({ apiUrl: "http://127.0.0.1:1/api/v1" });
  await assert.rejects(services.signIn("you@example.com", "secret"), { status: 0, code: "unreachable", passing: true });
  configure({ apiUrl: `http://127.0.0.1:${port}/ads/api/v1` });
});

test("the end of a session is told once to whoever must know", async () => {
  const told = [];
  configure({ onUnauthenticated: (problem) => told.push(problem.code) });
  answer = [401, '{"code": "unauthenticated", "detail": "The token has expired."}'];
  await assert.rejects(services.enhancements.get(7), { code: "unauthenticated", message: "The token has expired." });
  assert.deepEqual(told, ["unauthenticated"]);
});

test("links are followed where the service is reached, whatever name it has for itself", () => {
  const base = `http://127.0.0.1:${server.address().port}/ads/`;
  assert.equal(here("https://ads.example/api/v1/videos/7/stream?token=t"), `${base}api/v1/videos/7/stream?token=t`);
  assert.equal(here("https://ads.example/uploads/user_1/a.jpg?token=t"), `${base}uploads/user_1/a.jpg?token=t`);
  assert.equal(here("/uploads/user_1/a.jpg"), `${base}uploads/user_1/a.jpg`);
  assert.equal(here("videos/7"), `${base}api/v1/videos/7`);
});

test("the service's clock is the one that counts", async () => {
  await services.videos.get(7);
  assert.ok(Math.abs(now() - Date.parse("2060-01-01T00:00:00Z")) < 60_000);
});
