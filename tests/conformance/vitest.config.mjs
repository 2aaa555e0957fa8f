export default {
  // Beside the packages, not in a node_modules of this folder.
  cacheDir: "../../.cache/node/vite",
  test: {
    include: ["server.test.mjs"],
    // In this process: what is ended leaves no other behind.
    pool: "threads",
    // For tests that name no limit of their own. The random ones make hundreds of requests, and
    // the machine may do other work beside them.
    testTimeout: 30_000,
  },
}
