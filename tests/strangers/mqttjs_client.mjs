// mqtt.js as a bin. One line on standard output for each step; the test reads them.
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const given = JSON.parse(process.argv[2]);
const say = (text) => process.stdout.write(text + "\n");
const options = {
  protocolVersion: given.version,
  clientId: given.dev,
  username: given.dev,
  password: given.password,
  reconnectPeriod: 0,
  connectTimeout: 10_000,
  ...(given.ca ? { ca: readFileSync(given.ca), servername: "localhost" } : {}),
};
const url = `${given.ca ? "mqtts" : "mqtt"}://127.0.0.1:${given.port}`;
const up = `brim/bin/${given.dev}/up`;
const reading = (seq) => JSON.stringify({ epoch: 1, seq, status: "ok", distance_mm: 500 });

let client = await mqtt.connectAsync(url, options);
say("connected");
await client.publishAsync(up, reading(1), { qos: 1 });
say("acknowledged 1");
await client.endAsync();

client = await mqtt.connectAsync(url, options);
say("connected");
await client.publishAsync(up, reading(2), { qos: 1 });
say("acknowledged 2");
const [granted] = await client.subscribeAsync(`brim/bin/${given.dev}/down`, { qos: 1 });
client.on("message", (topic, payload) => {
  say(`command ${payload.toString("hex")}`);
  client.on("close", () => {
    say("refused");
    process.exit(0);
  });
  client.publish(`brim/bin/${given.other}/up`, reading(3), { qos: 1 });
});
say(`subscribed ${granted.qos}`);
