// The hooks against a real server of streams; REACT says by which library they are rendered.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { mount, until } from "./rendering.mjs";
import { StreamServer } from "./server.mjs";

const lib = new URL("../../../enhancer/web/page/lib/", import.meta.url);
const { configure } = await import(new URL("api/client.js", lib));
const { PACE } = await import(new URL("hooks/stream.js", lib));
const { useEnhancementStream } = await import(new URL("hooks/useEnhancementStream.js", lib));
const { useVideoStream } = await import(new URL("hooks/useVideoStream.js", lib));

const QUICK = { retry: 10, longest: 40, silence: 30_000, quiet: 30_000 };
const STEPS = [5, 10, 15, 20].map((progress) => ({ progress, message: `step ${progress}`, status: "processing" }));
const DONE = { progress: 100, message: "done", status: "completed", enhanced_image_url: "/uploads/a.jpg", script: "A cup." };

let server;
let calls;
let mounted;

beforeEach(async () => {
  Object.assign(PACE, QUICK);
  server = await new StreamServer().start();
  configure({ apiUrl: `${server.url}/api/v1`, token: () => server.account });
  calls = { complete: [], error: [], progress: [] };
});

afterEach(async () => {
  mounted?.unmount();
  await server.stop();
});

const callbacks = () => ({
  onComplete: (result) => calls.complete.push(result),
  onError: (...told) => calls.error.push(told),
  onProgress: (...told) => calls.progress.push(told),
});
const watch = (options, hook = useEnhancementStream) => (mounted = mount(hook, { taskId: 1, ...callbacks(), ...options }));
const percents = () => mounted.last().messages.map(({ progress }) => progress);
// renderers draw in their own time
const shown = (...expected) => until(() => percents().join() === expected.join(), `${expected}`);
const tellAll = (events) => events.forEach((event) => server.tell(event));

test("tells every event, in order, and the result at the end", async () => {
  server.tell(STEPS[0]);
  watch();
  await until(() => mounted.last().isConnected && percents().length === 1);
  assert.equal(mounted.last().progress, 5);
  tellAll([...STEPS.slice(1), DONE]);
  await until(() => calls.complete.length);
  await shown(5, 10, 15, 20, 100);
  assert.equal(mounted.last().progress, 100);
  assert.equal(mounted.last().lastMessage.script, "A cup.");
  assert.equal(calls.complete[0].enhanced_image_url, "/uploads/a.jpg");
  assert.deepEqual(calls.progress.map(([progress, message]) => [progress, message]).slice(0, 2), [[5, "step 5"], [10, "step 10"]]);
  assert.deepEqual(calls.error, []);
});

test("opens the stream with its scoped address, and closes it at the end", async () => {
  tellAll([STEPS[0], DONE]);
  watch();
  await until(() => calls.complete.length && !server.open);
  await until(() => !mounted.last().isConnected);
  assert.equal(server.opened.length, 1, "the browser does not come back");
  assert.equal(server.opened[0].searchParams.get("token"), "scoped-1");
});

test("asks for no address that it has been given", async () => {
  tellAll([STEPS[0], DONE]);
  watch({ streamUrl: "http://elsewhere.example/api/v1/ai/enhance-and-script/1/stream?token=given" });
  await until(() => calls.complete.length);
  assert.equal(server.looks, 0);
  assert.equal(server.opened[0].searchParams.get("token"), "given");
});

test("a failure is told as an error, once, and ends the stream", async () => {
  tellAll([STEPS[3], { progress: -1, status: "failed", error: "The provider refused.", error_code: "provider_refused" }]);
  watch();
  await until(() => calls.error.length && !server.open);
  assert.equal(calls.error[0][0], "The provider refused.");
  assert.equal(calls.error[0][1].error_code, "provider_refused");
  await until(() => mounted.last().messages.length === 2);
  assert.equal(mounted.last().progress, 20, "the bar stays where it was");
  assert.deepEqual(calls.complete, []);
  assert.equal(server.opened.length, 1);
});

test("a cancelled task is an end too", async () => {
  tellAll([STEPS[0], { progress: 5, status: "cancelled", message: "Cancelled" }]);
  watch();
  await until(() => calls.error.length && !server.open);
  assert.equal(calls.error[0][1].status, "cancelled");
});

test("goes on after broken connections, with nothing missed and nothing twice", async () => {
  watch();
  for (const step of STEPS) {
    server.tell(step);
    await until(() => percents().at(-1) === step.progress);
    server.hangUp();
    await until(() => !mounted.last().isConnected);
    await until(() => mounted.last().isConnected);
  }
  server.tell(DONE);
  await until(() => calls.complete.length);
  await shown(5, 10, 15, 20, 100);
  assert.deepEqual(calls.progress.map(([progress]) => progress), [5, 10, 15, 20, 100]);
  assert.equal(calls.complete.length, 1);
});

test("builds a new stream when the browser has given up, after the last id", async () => {
  tellAll(STEPS.slice(0, 2));
  watch();
  await until(() => percents().length === 2);
  server.broken = 503;
  server.hangUp();
  await until(() => server.opened.length > 2);
  server.broken = 0;
  tellAll([STEPS[2], DONE]);
  await until(() => calls.complete.length);
  await shown(5, 10, 15, 100);
  const { searchParams } = server.opened.at(-1);
  assert.equal(searchParams.get("last_event_id"), "2");
  assert.notEqual(searchParams.get("token"), "scoped-1", "with a fresh address");
});

test("goes on when the service was stopped and started again", async () => {
  server.tell(STEPS[0]);
  watch();
  await until(() => percents().length === 1);
  await server.stop();
  await until(() => !mounted.last().isConnected);
  server.events.push({ id: 2, data: { timestamp: 2, ...STEPS[1] } });
  await server.start(server.port);
  await until(() => mounted.last().isConnected);
  server.tell(DONE);
  await until(() => calls.complete.length);
  await shown(5, 10, 100);
});

test("asks for the status where streams are blocked", async () => {
  server.broken = 500;
  server.tell(STEPS[0]);
  watch();
  await until(() => percents().includes(5));
  assert.equal(mounted.last().isConnected, false);
  server.tell(STEPS[1]);
  await until(() => percents().includes(10));
  server.tell(DONE);
  await until(() => calls.complete.length);
  assert.equal(calls.complete[0].script, "A cup.");
  await shown(5, 10, 100);
  const { looks } = server;
  await new Promise((resolve) => setTimeout(resolve, 4 * PACE.longest));
  assert.equal(server.looks, looks, "and no more after the end");
});

test("asks for the status where a proxy holds streams back", async () => {
  PACE.silence = PACE.quiet = 50;
  server.silent = true;
  server.tell(STEPS[0]);
  watch();
  await until(() => percents().includes(5));
  server.tell(DONE);
  await until(() => calls.complete.length);
});

test("what the status told comes not again by the stream, and what is missing finds its place", async () => {
  server.broken = 500;
  watch();
  tellAll(STEPS.slice(0, 2));
  await until(() => percents().includes(10));
  server.tell(STEPS[2]);
  await until(() => percents().includes(15));
  server.broken = 0;
  await until(() => mounted.last().isConnected);
  server.tell(DONE);
  await until(() => calls.complete.length);
  await shown(5, 10, 15, 100);
  assert.equal(calls.complete.length, 1);
});

test("an expired session is told as an error", async () => {
  const gone = [];
  configure({ onUnauthenticated: (problem) => gone.push(problem.code) });
  server.account = "another";
  configure({ token: () => "account-token" });
  watch();
  await until(() => calls.error.length);
  assert.equal(calls.error[0][1].code, "unauthenticated");
  assert.deepEqual(gone, ["unauthenticated"]);
});

test("unmounting closes the stream", async () => {
  server.tell(STEPS[0]);
  watch();
  await until(() => server.open === 1);
  mounted.unmount();
  await until(() => server.open === 0);
  server.tell(DONE);
  assert.deepEqual(calls.complete, []);
});

test("no task means no stream, and an end to the former one", async () => {
  watch({ taskId: null });
  assert.deepEqual(percents(), []);
  assert.equal(server.looks, 0);
  server.tell(STEPS[0]);
  mounted.render({ taskId: 1, ...callbacks() });
  await until(() => percents().length === 1);
  mounted.render({ taskId: null, ...callbacks() });
  await shown();
  assert.deepEqual([mounted.last().progress, mounted.last().isConnected], [0, false]);
  await until(() => server.open === 0);
});

test("another task begins anew", async () => {
  tellAll(STEPS);
  watch();
  await until(() => percents().length === 4);
  server.events = [];
  mounted.render({ taskId: 2, ...callbacks() });
  assert.deepEqual(percents(), []);
  server.tell({ ...STEPS[0], message: "of another" });
  await until(() => percents().length === 1);
  assert.equal(mounted.last().lastMessage.message, "of another");
  await until(() => server.open === 1);
  assert.match(server.opened.at(-1).pathname, /\/2\/stream$/);
});

test("a new callback is used without a new stream", async () => {
  const told = [];
  watch();
  await until(() => mounted.last().isConnected);
  mounted.render({ taskId: 1, onProgress: (progress) => told.push(progress) });
  server.tell(STEPS[0]);
  await until(() => told.length);
  assert.deepEqual([told, server.opened.length], [[5], 1]);
});

test("partial images and words of the script are told beside the messages", async () => {
  watch();
  await until(() => server.open === 1 && mounted.last().isConnected);
  server.extra("preview", { image_url: "/uploads/partial.jpg", step: 1, timestamp: 1 });
  server.extra("script", { script: "A cup of", timestamp: 1 });
  await until(() => mounted.last().script && mounted.last().preview);
  assert.equal(mounted.last().preview.image_url, "/uploads/partial.jpg");
  assert.equal(mounted.last().script, "A cup of");
  assert.deepEqual(percents(), []);
});

test("a video is followed by its steps", async () => {
  const step = (step, progress = 0) => ({ step, progress, message: `step ${step}`, status: "processing" });
  watch({}, useVideoStream);
  tellAll([step(0), step(4), step(5, 10), step(5, 62)]);
  await until(() => mounted.last().messages.length === 4);
  assert.deepEqual([mounted.last().step, mounted.last().progress], [5, 62]);
  assert.deepEqual(calls.progress.at(-1).slice(0, 2), [5, "step 5"]);
  server.tell({ ...step(9, 100), status: "completed", video_url: "/uploads/a.mp4", thumbnail_url: "/uploads/a.jpg" });
  await until(() => calls.complete.length);
  assert.equal(calls.complete[0].video_url, "/uploads/a.mp4");
  await until(() => mounted.last().step === 9);
  assert.match(server.opened[0].pathname, /\/videos\/1\/stream$/);
});
