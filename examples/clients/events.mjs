// Records a stream of tokens as one request of one run, with the times at which they came.
//   node events.mjs SOCKET MODEL
// Start `telemetry collect --listen` first; it says where SOCKET is. Put your own stream in the place of `generate`.
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const [, , path, model] = process.argv;

async function* generate() {
  for (const word of "Once upon a time there was a meter".split(" ")) {
    await pause(20);
    yield word;
  }
}

const socket = connect(path);
socket.on("error", (error) => { console.error(`${path}: ${error.message}`); process.exit(1); });
let taken = 0;
createInterface(socket).on("line", (line) => {
  if (JSON.parse(line).ok) taken += 1; else process.exitCode = 1;
  console.log(line);
});
process.on("exit", () => { if (taken < 2) process.exitCode = 1; });  // it went away before the run was stopped
const tell = (event, more) =>  // hrtime is CLOCK_MONOTONIC, the collector's own clock
  socket.write(JSON.stringify({ event, run: "r", t_mono_ns: Number(process.hrtime.bigint()), ...more }) + "\n");

tell("run_start", { model, runner: "node" });
tell("request_start", { request: 1, input_tokens: 3 });
for await (const _ of generate()) tell("token", { request: 1 });
tell("request_end", { request: 1, finish_reason: "stop" });
tell("run_stop");
socket.end();
