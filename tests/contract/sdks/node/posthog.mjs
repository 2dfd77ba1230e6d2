// The script with posthog-node; the environment chooses the protocol.

import { PostHog } from 'posthog-node';

import { CUT, TRAITS, failed, play, report, script } from './script.mjs';

await play(async () => {
  const posthog = new PostHog(script.key, {
    host: script.url,
    flushAt: 100,
    flushInterval: 100,
    disableCompression: !script.gzip,
  });
  posthog.on('error', failed);
  const distinctId = script.user(0);
  const groupKey = script.account(0);
  const groups = { company: groupKey };
  posthog.identify({ distinctId, properties: { email: 'u@example.com' } });
  posthog.groupIdentify({ groupType: 'company', groupKey, properties: TRAITS, distinctId });
  posthog.capture({ distinctId, event: '$pageview', properties: { url: '/start' }, groups });
  posthog.capture({ distinctId, event: '$screen', properties: { tab: 2 }, groups });
  posthog.alias({ distinctId, alias: 'before' });
  report.sent = 5;
  for (let number = 0; number < script.exports; number += 1) {
    posthog.capture({
      distinctId: script.user(number),
      event: 'Report Exported',
      properties: { n: number, ratio: NaN, cut: CUT },
      groups: { company: script.account(number) },
      timestamp: script.time(number),
    });
    report.sent += 1;
  }
  await posthog.shutdown(60_000);
});
