// One answer of the model, streamed into a turn.
import { ApiError, failed, open } from '../lib/api/client';
import type { ChatChunk, Message } from '../lib/api/types';
import type { Sampling } from './keeper';
import type { Turn } from './tree';

/** What is asked. */
export interface Question {
  messages: Message[];
  sampling: Sampling;
  /** False: answered, and never logged. */
  recorded: boolean;
}

/** Streams the answer into `turn` as it comes; the turn is `stopped` until the stream has ended. */
export async function stream(turn: Turn, { messages, sampling, recorded }: Question, signal: AbortSignal): Promise<void> {
  const body = { model: 'champion', messages, ...sampling, stream: true, ...(recorded ? {} : { store: false }) };
  const answer = await open('/v1/chat/completions', { method: 'POST', body, signal });
  const policy = answer.headers.get('x-hone-policy');
  if (policy) turn.policy = policy;
  for await (const { data } of answer.events) {
    if (data === '[DONE]') {
      delete turn.stopped;
      return;
    }
    const chunk = JSON.parse(data) as ChatChunk;
    if (chunk.error) throw failed(chunk.error);
    if (recorded) turn.completion = chunk.id;
    turn.content += chunk.choices[0]?.delta.content ?? '';
  }
  throw new ApiError('The answer broke off before its end. Try again.', 0, 'broken');
}
