// npm lora-packet as a program: one JSON question a line in, one answer a line out.
// {"decode": hex, "nwk_s_key", "app_s_key", "f_cnt", "app_key"?} or {"encode": {...fields}, the same keys}.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const loraPacket = createRequire(import.meta.url)(process.argv[2]);
const hex = (buffer) => (buffer ? buffer.toString("hex") : "");
const key = (text) => (text ? Buffer.from(text, "hex") : undefined);

function upperHalf(fCnt) {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(Math.floor((fCnt ?? 0) / 65536));
  return bytes;
}

function decode({ decode: phy, nwk_s_key, app_s_key, app_key, f_cnt }) {
  const packet = loraPacket.fromWire(Buffer.from(phy, "hex"));
  const upper = upperHalf(f_cnt);
  const micOk = loraPacket.verifyMIC(packet, key(nwk_s_key), key(app_key), upper);
  const found = { m_type: packet.getMType().replaceAll(" ", ""), mic_ok: micOk, mic: hex(packet.MIC) };
  if (packet.isJoinRequestMessage()) {
    return { ...found, join_eui: hex(packet.AppEUI), dev_eui: hex(packet.DevEUI), dev_nonce: hex(packet.DevNonce) };
  }
  const plain = packet.FRMPayload?.length ? loraPacket.decrypt(packet, key(app_s_key), key(nwk_s_key), upper) : null;
  return {
    ...found,
    dev_addr: hex(packet.DevAddr),
    f_cnt16: packet.getFCnt(),
    f_opts: hex(packet.FOpts),
    f_port: packet.getFPort(),
    frm_payload: hex(plain),
    adr: packet.getFCtrlADR(),
    ack: packet.getFCtrlACK(),
    adr_ack_req: packet.getFCtrlADRACKReq(),
    f_pending: packet.getFCtrlFPending(),
  };
}

function encode({ encode: fields, nwk_s_key, app_s_key, app_key, f_cnt }) {
  const given = { ...fields };
  for (const name of ["DevAddr", "FOpts", "payload", "AppEUI", "DevEUI", "DevNonce"]) {
    if (typeof given[name] === "string") given[name] = Buffer.from(given[name], "hex");
  }
  const packet = loraPacket.fromFields(given, key(app_s_key), key(nwk_s_key), key(app_key), upperHalf(f_cnt));
  return { phy: hex(packet.getPHYPayload()) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = question.encode ? encode(question) : decode(question);
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
