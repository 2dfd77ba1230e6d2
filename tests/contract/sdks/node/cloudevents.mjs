// The script with cloudevents for Node: binary and structured through its emitter, batches by hand.
// Its HTTP transport hides the status: an answer with a body is an error.

import { CloudEvent, Mode, emitterFor, httpTransport } from 'cloudevents';

import { CUT, failed, play, report, script, untilTaken } from './script.mjs';

await play(async () => {
  const emit = emitterFor(httpTransport(`${script.url}/api/v1/events`), {
    mode: script.mode === 'binary' ? Mode.BINARY : Mode.STRUCTURED,
  });
  const headers = { authorization: `Bearer ${script.key}` };
  for (let number = 0; number < script.exports; number += 1) {
    const event = new CloudEvent({
      id: `export-${number}`,
      source: 'app/backend',
      type: 'report exported',
      subject: script.account(number),
      time: script.time(number).toISOString(),
      userid: script.user(number),
      data: { n: number, ratio: NaN, cut: CUT },
    });
    report.sent += 1;
    await untilTaken(async () => {
      const answer = await emit(event, { headers });
      if (answer.headers['retry-after']) return Number(answer.headers['retry-after']);
      if (answer.body) failed(answer.body);
      return null;
    });
  }
});
