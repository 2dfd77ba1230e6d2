// What every script is told and what it says at its end: one line of JSON each way. The script is
// the one of the Python SDKs; see ../python/script.py.

const ACCOUNTS = 5;
const USERS = 7;
const NO_ACCOUNT = '[object Object]';
export const CUT = 'caf\u00e9 \ud83d';
export const TRAITS = { name: 'Acme', plan: 'pro', monthlySpend: 120.5 };

const told = JSON.parse(process.argv[2]);

export const script = {
  exports: 500,
  plans: 0,
  bad: null,
  gzip: false,
  mode: '',
  ...told,
  account: (number) => (number === told.bad ? NO_ACCOUNT : `acct-${number % ACCOUNTS}`),
  user: (number) => `user-${number % USERS}`,
  time: (number) => new Date(Date.parse(told.first) + number * 1000),
  planned: (number) => [`member-${told.mode}-${number}`, `team-${told.mode}-${number}`],
};

export const report = { sent: 0, errors: [] };

// The SDKs' error callback.
export function failed(error) {
  report.errors.push(String(error?.message ?? error));
}

export async function play(send) {
  // A timer, as any server has one: some SDKs wait for a retry without keeping the process alive.
  const alive = setInterval(() => {}, 1000);
  await send();
  clearInterval(alive);
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

// For an SDK that sends without retrying: `attempt` says how long to wait before the next one.
export async function untilTaken(attempt) {
  for (let tries = 0; tries < 5; tries += 1) {
    const seconds = await attempt();
    if (!seconds) return;
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}
