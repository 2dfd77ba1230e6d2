// The script with @openmeter/sdk, which sends batches only and retries nothing.

import { OpenMeter } from '@openmeter/sdk';

import { CUT, failed, play, report, script, untilTaken } from './script.mjs';

const BATCH = 100;

await play(async () => {
  const openmeter = new OpenMeter({ baseUrl: script.url, apiKey: script.key });
  for (let start = 0; start < script.exports; start += BATCH) {
    const events = [];
    for (let number = start; number < Math.min(start + BATCH, script.exports); number += 1) {
      events.push({
        id: `export-${number}`,
        source: 'app/backend',
        type: 'report exported',
        subject: script.account(number),
        time: script.time(number),
        data: { n: number, user_id: script.user(number), ratio: NaN, cut: CUT },
      });
    }
    report.sent += events.length;
    await untilTaken(async () => {
      try {
        await openmeter.events.ingest(events);
      } catch (error) {
        if ([429, 503].includes(error.status)) return 1;
        failed(error);
      }
      return null;
    });
  }
});
