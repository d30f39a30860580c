/** A Worker that writes to the last word of each page, over and over, until its process ends. */
export interface Writing {
  buffer: SharedArrayBuffer;
  pages: number;
  /** Bytes. */
  pageSize: number;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Writing>) => void;
  postMessage(message: string): void;
};

scope.onmessage = ({ data: { buffer, pages, pageSize } }) => {
  const words = new Uint32Array(buffer);
  scope.postMessage("begun");
  for (let count = 1;; count++) {
    for (let page = 1; page <= pages; page++) words[page * pageSize / 4 - 1] = count;
  }
};
