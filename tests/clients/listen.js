// A subscriber in JavaScript, written from the protocol's document (inspectd/wire/README.md) alone.
//
//     npm install zeromq
//     node listen.js PUBLISHED CONTROL COUNT DROP [SERVER.key OWN.key_secret]
//
// Prints a line for everything that it hears: verdict, mask, state, daemon, gap, filled, missed, refused. Ends after
// COUNT verdicts. Throws away the verdicts whose number ends in DROP (a digit; -: none), as if they had been lost.
"use strict";
const fs = require("fs");
const zmq = require("zeromq");

const [published, control, count, drop, serverKey, ownKey] = process.argv.slice(2);
const places = new Map();
let heard = 0;
let asked = 0;
let asking = null;

function say(what, camera, a = 0, b = 0) {
  const now = process.hrtime.bigint() / 1000000n;
  fs.writeSync(1, `${what} ${camera} ${a} ${b} ${now}\n`);
}

function key(file, name) {
  const found = fs.readFileSync(file, "utf8").match(new RegExp(`${name}-key\\s*=\\s*"([^"]{40})"`));
  if (!found) throw new Error(`${file} holds no ${name} key`);
  return found[1];
}

function options() {
  if (!serverKey) return {};
  return {
    curveServerKey: key(serverKey, "public"),
    curvePublicKey: key(ownKey, "public"),
    curveSecretKey: key(ownKey, "secret"),
  };
}

function watchRefusals(socket, name, then) {
  socket.events.on("handshake:error:auth", () => {
    say("refused", name);
    then();
  });
}

async function fill(camera, epoch, after, until) {
  say("gap", camera, after + 1, until);
  if (!asking) return;
  const request = { id: ++asked, cmd: "verdicts", camera, epoch, after, limit: until - after };
  await asking.send(JSON.stringify(request));
  let reply;
  do {
    reply = JSON.parse((await asking.receive())[0]);
  } while (reply.id !== request.id);
  let last = after;
  for (const header of reply.ok ? reply.result.verdicts : []) {
    if (header.seq > last + 1) say("missed", camera, last + 1, header.seq - 1);
    say("filled", camera, header.seq);
    heard++;
    last = header.seq;
  }
  if (last < until) say("missed", camera, last + 1, until);
}

async function comeTo({ camera, epoch }, seq) {
  if (!places.has(camera)) places.set(camera, { epoch, seq });
  const place = places.get(camera);
  if (place.epoch !== epoch) Object.assign(place, { epoch, seq: 0 });
  if (place.seq < seq) {
    await fill(camera, epoch, place.seq, seq);
    place.seq = seq;
  }
}

async function hear(topic, header, bytes) {
  if (topic.startsWith("verdict/")) {
    if (String(header.seq % 10) === drop) return;
    await comeTo(header, header.seq - 1);
    const place = places.get(header.camera);
    if (header.seq > place.seq) {
      place.seq = header.seq;
      say("verdict", header.camera, header.seq);
      heard++;
    }
  } else if (topic.startsWith("mask/")) {
    say("mask", header.camera, header.mask.w * header.mask.h, bytes.length);
  } else if (topic.startsWith("state/")) {
    say("state", header.camera, header.last_seq);
    await comeTo(header, header.last_seq);
  } else if (topic.startsWith("daemon/")) {
    say("daemon", "-", header.v);
  }
}

async function main() {
  const listening = new zmq.Subscriber({ ...options(), receiveHighWaterMark: 0 });
  asking = new zmq.Dealer({ ...options(), linger: 0, receiveTimeout: 5000 });
  watchRefusals(listening, "published", () => process.exit(3));
  watchRefusals(asking, "control", () => {
    asking = null;
  });
  listening.connect(published);
  asking.connect(control);
  listening.subscribe("verdict/", "mask/", "state/", "daemon/");
  for await (const [topic, header, bytes] of listening) {
    await hear(topic.toString(), JSON.parse(header), bytes);
    if (heard >= Number(count)) process.exit(0);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
