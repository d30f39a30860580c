/**
 * A Worker that counts up one word of each of some pages while it may, and is quiet otherwise;
 * it looks each time whether a word is what it wrote last.
 */
interface Task {
  buffer: SharedArrayBuffer;
  /** Which pages, and which word of each. */
  first: number;
  end: number;
  index: number;
  /** Whether what it wrote before may be gone each time that it begins. */
  forgets: boolean;
  /** 1: it may write. 0: it is to be quiet, and says so. -1: it is to end. And how many are quiet. */
  control: Int32Array<SharedArrayBuffer>;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Task>) => void;
  postMessage(lost: number): void;
};

const PAGE_WORDS = 4096;

scope.onmessage = ({ data: { buffer, first, end, index, forgets, control } }) => {
  const words = new Uint32Array(buffer);
  const last = new Uint32Array(end);
  let lost = 0;
  const look = (page: number) => {
    if (words[page * PAGE_WORDS + index] !== last[page]) lost++;
  };
  const learn = () => {
    for (let page = first; page < end; page++) last[page] = words[page * PAGE_WORDS + index];
  };
  learn();
  Atomics.add(control, 1, 1);
  while (Atomics.load(control, 0) >= 0) {
    if (Atomics.load(control, 0) === 0) {
      Atomics.wait(control, 0, 0);
      continue;
    }
    if (forgets) learn();
    Atomics.sub(control, 1, 1);
    while (Atomics.load(control, 0) === 1) {
      for (let page = first; page < end; page++) {
        look(page);
        last[page] = ++words[page * PAGE_WORDS + index];
      }
    }
    for (let page = first; page < end; page++) look(page);
    Atomics.add(control, 1, 1);
    Atomics.notify(control, 1);
  }
  scope.postMessage(lost);
};
