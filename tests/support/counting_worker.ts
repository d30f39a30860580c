/** A Worker that counts up one word of each page, over and over, until it is told to stop. */
interface Task {
  buffer: SharedArrayBuffer;
  /** Which word of each page is this Worker's. */
  index: number;
  /** Whether to stop, and how many Workers have begun. */
  control: Int32Array<SharedArrayBuffer>;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Task>) => void;
  postMessage(message: string): void;
};

scope.onmessage = ({ data: { buffer, index, control } }) => {
  const words = new Uint32Array(buffer);
  Atomics.add(control, 1, 1);
  while (Atomics.load(control, 0) === 0) {
    for (let at = index; at < words.length; at += 4096) words[at]++;
  }
  scope.postMessage("stopped");
};
