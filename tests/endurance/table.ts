/** Tables on the terminal: a name, and numbers in columns. */

export function printTable(head: string[], rows: (string | number)[][]): void {
  const text = [head, ...rows].map((row) => row.map((cell) => cell.toLocaleString("en")));
  const widths = head.map((_, at) => Math.max(...text.map((row) => row[at].length)));
  for (const [first, ...rest] of text) {
    const numbers = rest.map((cell, at) => cell.padStart(widths[at + 1] + 2));
    console.log(first.padEnd(widths[0]) + numbers.join(""));
  }
}
