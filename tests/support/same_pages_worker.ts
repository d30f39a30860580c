/**
 * A Worker that writes a word to each system page of a shared memory but the first, at the
 * same time as another.
 */
self.onmessage = ({ data: { buffer, index } }: MessageEvent) => {
  const words = new Int32Array(buffer);
  const [own, other] = [index, 1 - index];
  for (let at = 1; at < words.length / 1024; at++) {
    Atomics.store(words, own, at);
    while (Atomics.load(words, other) < at);
    words[at * 1024 + index] = at;
  }
  self.postMessage("done");
};
