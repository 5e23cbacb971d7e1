// Pictures to frames, in order: {gen, id, codec, key, payload} in, {gen, id, frame} or {error} out.

let decoder = null, codec = "", line = Promise.resolve(), waiting = [], size = null;

self.onmessage = ({ data }) => {
  if (data.size) return void (size = data.size);
  line = line.then(() => decode(data)).catch((error) => self.postMessage({ gen: data.gen, error: String(error) }));
};

async function decode(item) {
  if (item.codec !== codec) {
    decoder?.close();
    decoder = null;
    codec = item.codec;
    waiting = [];
  }
  if (codec === "jpeg") return give(item, await createImageBitmap(new Blob([item.payload], { type: "image/jpeg" })));
  if (codec === "raw") return give(item, await createImageBitmap(rgba(item.payload)));
  if (item.key && item.fresh) {
    decoder?.close();
    decoder = null;
    waiting = [];
  }
  decoder ??= start();
  waiting.push(item);
  decoder.decode(new EncodedVideoChunk({ type: item.key ? "key" : "delta", timestamp: item.id, data: item.payload }));
}

function start() {
  const made = new VideoDecoder({
    output: (frame) => {
      const item = waiting.shift();
      item ? give(item, frame) : frame.close();
    },
    error: (error) => {
      const gen = waiting[0]?.gen;
      decoder = null;
      waiting = [];
      self.postMessage({ gen, error: String(error) });
    },
  });
  made.configure({ codec: "avc1.640028", optimizeForLatency: true, hardwareAcceleration: "prefer-software" });
  return made;
}

function give(item, frame) {
  self.postMessage({ gen: item.gen, id: item.id, frame }, [frame]);
}

function rgba(payload) {
  const rgb = new Uint8Array(payload), out = new Uint8ClampedArray((rgb.length / 3) * 4);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    out[j] = rgb[i];
    out[j + 1] = rgb[i + 1];
    out[j + 2] = rgb[i + 2];
    out[j + 3] = 255;
  }
  return new ImageData(out, size[0], size[1]);
}
